import { describe, expect, it } from "vitest";
import { assignSlots, type Lifetime } from "../../src/program/slots.js";
import { RandomSource } from "../../src/program/random.js";

const life = (bytes: number, first: number, last: number): Lifetime => ({
  kind: "workspace",
  bytes,
  first,
  last,
  apart: new Set(),
});

function keepApart(a: Lifetime, b: Lifetime): void {
  a.apart.add(b);
  b.apart.add(a);
}

const total = (lifetimes: readonly Lifetime[]): number =>
  assignSlots(lifetimes).buffers.reduce((sum, b) => sum + b.bytes, 0);

describe("assignSlots", () => {
  it("lays tensors of the same time side by side in one buffer", () => {
    const lives = [life(1024, 0, 9), life(256, 0, 3), life(256, 5, 8), life(300, 4, 9)];
    expect(total(lives)).toBe(1024 + 256 + 300 - (300 - 256) + 44);
  });

  it("gives tensors that one call reads and writes buffers of their own", () => {
    const [a, b] = [life(1000, 0, 5), life(200, 0, 5)];
    keepApart(a, b);
    const slots = assignSlots([a, b]);
    expect(slots.places.get(a)?.slot).not.toBe(slots.places.get(b)?.slot);
    // Later, when the other one is gone, its buffer is free.
    const c = life(900, 6, 7);
    expect(total([a, b, c])).toBe(1200);
  });

  it("never overlaps what lives at the same time, and keeps apart what must be", () => {
    const random = new RandomSource(1, 0);
    const lives = Array.from({ length: 600 }, () => {
      const first = random.nextBelow(1000);
      return life(4 * (1 + random.nextBelow(5000)), first, first + random.nextBelow(120));
    });
    for (let i = 0; i < 900; i++) {
      const [a, b] = [lives[random.nextBelow(600)]!, lives[random.nextBelow(600)]!];
      if (a !== b) keepApart(a, b);
    }
    const { places, buffers } = assignSlots(lives);
    for (const [i, a] of lives.entries()) {
      const at = places.get(a)!;
      expect(at.offsetBytes % 256).toBe(0);
      expect(at.offsetBytes + a.bytes).toBeLessThanOrEqual(buffers[at.slot]!.bytes);
      for (const b of lives.slice(i + 1)) {
        const other = places.get(b)!;
        if (a.last < b.first || b.last < a.first || at.slot !== other.slot) continue;
        expect(a.apart.has(b)).toBe(false);
        expect(
          at.offsetBytes + a.bytes <= other.offsetBytes || other.offsetBytes + b.bytes <= at.offsetBytes,
        ).toBe(true);
      }
    }
    // The same list, the same places.
    expect(assignSlots(lives).places).toEqual(places);
  });

  it("takes the smallest of several orders", () => {
    // The largest first would need 1536; the longest-lived first needs no more than what lives at once.
    const lives = [life(768, 5, 8), life(512, 2, 4), life(256, 4, 5), life(768, 3, 3)];
    expect(total(lives)).toBe(1280);
  });

  it("needs nothing for nothing", () => {
    expect(assignSlots([])).toEqual({ buffers: [], places: new Map() });
  });
});
