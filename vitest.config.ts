/** The tests of `npm test`; those on a real model have a configuration of their own. */
import { configDefaults, defineConfig } from "vitest/config";
import { LongFirst } from "./test/long_first.js";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, "test/real/**"],
    // A process for each file: Dawn's devices and a crash of one stay apart.
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: LongFirst },
    // A software GPU compiles big kernels for a second or more at their first dispatch, and some processors take three times as long as others.
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
