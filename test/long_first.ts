/** The order of test files: those that take long first, since one of them that is started last runs on alone. */
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** How the first of them begin. */
const FIRST: readonly string[] = [
  // These keep all cores busy, the Hub's wait most of their time: beside each other they lose neither.
  "test/stories/memory.test.ts",
  "test/hub/",
  "test/stories/precision.test.ts",
  // A minute or more of compiling on one core each where no shader is in the cache.
  "test/kernels/attention_matrix.test.ts",
  "test/train/forced_variants.test.ts",
  "test/kernels/product_matrix.test.ts",
  "test/stories/profile.test.ts",
  "test/kernels/attention.test.ts",
];

/** Long files first, the others as ever. */
export class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const gone = FIRST.find((name) => !existsSync(join(this.ctx.config.root, name)));
    if (gone !== undefined) throw new Error(`test/long_first.ts: there is no ${gone}`);
    const place = ({ moduleId }: TestSpecification): number => {
      const path = relative(this.ctx.config.root, moduleId).replaceAll("\\", "/");
      const at = FIRST.findIndex((name) => path.startsWith(name));
      return at < 0 ? FIRST.length : at;
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}
