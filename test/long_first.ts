/** The order of test files: those that take long first, since one of them that is started last runs on alone. */
import { relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** A minute or more where no shader is in the cache, the longest first. */
const LONG: readonly string[] = [
  "test/kernels/attention_matrix.test.ts",
  "test/train/forced_variants.test.ts",
  "test/kernels/product_matrix.test.ts",
  "test/stories/profile.test.ts",
  "test/stories/memory.test.ts",
  "test/stories/precision.test.ts",
  "test/kernels/attention.test.ts",
];

/** Long files first, the others as ever. */
export class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const at = LONG.indexOf(relative(this.ctx.config.root, moduleId).replaceAll("\\", "/"));
      return at < 0 ? LONG.length : at;
    };
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b));
  }
}
