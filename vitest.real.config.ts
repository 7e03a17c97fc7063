/** The tests of `npm run test:real`: a real model in the folder that QDORA_SMOLLM2 names. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/real/**/*.test.ts"],
    pool: "forks",
    // Each test wants all cores and a good part of the memory.
    maxWorkers: 1,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
