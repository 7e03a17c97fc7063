import { describe, expect, it } from "vitest";
import { DYNAMIC_MAP, nearestEntry, UNSIGNED_DYNAMIC_MAP } from "../../src/quant/dynamic.js";
import { compareBits, goldenTensors } from "./nf4_fixture.js";

const { fround } = Math;

describe.each([
  ["signed", DYNAMIC_MAP],
  ["unsigned", UNSIGNED_DYNAMIC_MAP],
])("the %s dynamic map", (name, map) => {
  it("is bitsandbytes', bit for bit", () => {
    const golden = goldenTensors("../adamw8bit/steps.safetensors").f32(`${name}_map`);
    expect(compareBits(map, golden)).toBe("equal");
    if (name === "signed")
      expect(compareBits(map, goldenTensors("tables.safetensors").f32("dynamic_map"))).toBe("equal");
  });

  it("gives every entry its own code, and a midpoint the even one of two", () => {
    for (let code = 0; code < 256; code++) {
      expect(nearestEntry(map, map[code]!)).toBe(code);
      if (code === 255) break;
      const middle = fround(fround(map[code]! + map[code + 1]!) * 0.5);
      const distance = Math.abs(middle) * 2 ** -22;
      expect(nearestEntry(map, middle)).toBe(code + (code % 2));
      expect(nearestEntry(map, middle - distance)).toBe(code);
      expect(nearestEntry(map, middle + distance)).toBe(code + 1);
    }
  });

  it("clamps what lies beyond its ends", () => {
    expect(nearestEntry(map, 1.5)).toBe(255);
    expect(nearestEntry(map, -1.5)).toBe(0);
  });
});
