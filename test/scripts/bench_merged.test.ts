/** `npm run bench:merged`: base, base with adapter and merged model take turns; the merged one takes the base's memory to the byte. */
import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";

interface Side {
  readonly weights: string;
  readonly what: string;
  readonly ratio: number;
  readonly gpu_bytes: number;
}

describe("bench/merged.mjs", () => {
  it("compares both kinds of weights", () => {
    const args = ["bench/merged.mjs", "--rounds", "2", "--prompt", "16", "--tokens", "4", "--json"];
    const sides = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as readonly Side[];
    expect(sides.map(({ weights, what }) => `${weights}: ${what}`)).toEqual([
      "as stored: base",
      "as stored: base + adapter",
      "as stored: merged",
      "NF4: base",
      "NF4: base + adapter",
      "NF4: merged, quantised again",
    ]);
    for (const { ratio } of sides) expect(ratio).toBeGreaterThan(0);
    for (const [base, adapted, merged] of [sides.slice(0, 3), sides.slice(3)]) {
      expect(base?.ratio).toBe(1);
      expect(adapted?.gpu_bytes).toBeGreaterThan(base?.gpu_bytes ?? Infinity);
      expect(merged?.gpu_bytes).toBe(base?.gpu_bytes);
    }
  });
});
