import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { QdoraError } from "../../src/formats/error.js";
import {
  inverseFrequencies,
  ropeParameters,
  ropeTable,
  type RopeConfig,
} from "../../src/model/rope_table.js";

const golden = JSON.parse(readFileSync(new URL("../fixtures/rope/rope.json", import.meta.url), "utf8")) as {
  positions: number[];
  cases: {
    name: string;
    head_dim: number;
    config: RopeConfig;
    attention_factor: number;
    inv_freq: number[];
    cos: number[][];
    sin: number[][];
  }[];
};

describe("rope tables equal transformers'", () => {
  for (const { name, head_dim: headDim, ...want } of golden.cases) {
    it(name, () => {
      const rope = ropeParameters(want.config, "config.json");
      expect(rope.attentionFactor).toBeCloseTo(want.attention_factor, 15);

      const own = inverseFrequencies(rope, headDim);
      const theirs = Float32Array.from(want.inv_freq);
      expect(own.length).toBe(theirs.length);
      // torch's f32 power is not always the nearest f32: some machines' last bit differs in a few entries.
      const apart = own.filter((v, i) => v !== theirs[i]);
      expect(apart.length).toBeLessThanOrEqual(own.length / 16);
      own.forEach((v, i) => expect(Math.abs(v / theirs[i]! - 1)).toBeLessThanOrEqual(2 ** -23));

      const rows = headDim <= 32 ? 131072 : 4098;
      const half = headDim / 2;
      const table = ropeTable(rope, headDim, rows);
      expect(table.length).toBe(rows * headDim);
      const wrong: string[] = [];
      golden.positions.forEach((position, row) => {
        if (position >= rows) return;
        for (let i = 0; i < half; i++) {
          // Rounding of cos and of the product, and the turn that another last bit of the frequency makes.
          const turn = own[i] === theirs[i] ? 0 : position * own[i]! * 2 ** -22;
          const allowed = rope.attentionFactor * (2 ** -23 + turn);
          const at = (position * half + i) * 2;
          for (const [got, value] of [
            [table[at]!, want.cos[row]![i]!],
            [table[at + 1]!, want.sin[row]![i]!],
          ] as const) {
            if (!(Math.abs(got - value) <= allowed))
              wrong.push(`position ${position}, pair ${i}: ${got}, not ${value}`);
          }
        }
      });
      expect(wrong).toEqual([]);
    });
  }
});

describe("rope parameters", () => {
  const base = { max_position_embeddings: 4096 };
  const refusals: readonly [string, Partial<RopeConfig>, RegExp][] = [
    [
      "a type that depends on the length",
      { rope_scaling: { type: "dynamic", factor: 2 } },
      /rope_scaling\.type: got "dynamic" \(supported: default, linear, llama3, yarn\)/,
    ],
    [
      "longrope",
      { rope_parameters: { rope_type: "longrope" } },
      /rope_parameters\.rope_type: got "longrope"/,
    ],
    ["a missing factor", { rope_scaling: { type: "linear" } }, /rope_scaling\.factor: missing/],
    ["text for a number", { rope_scaling: { type: "linear", factor: "2" } }, /rope_scaling\.factor: /],
    [
      "a factor of zero",
      { rope_parameters: { rope_type: "linear", factor: 0 } },
      /rope_parameters\.factor: /,
    ],
    [
      "a band without width",
      { rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      /high_freq_factor: got 4, must be above low_freq_factor 4/,
    ],
    [
      "a partial rotation",
      { rope_parameters: { rope_type: "default", partial_rotary_factor: 0.5 } },
      /partial_rotary_factor: got 0\.5/,
    ],
    ["a theta of one", { rope_theta: 1 }, /rope_theta: got 1/],
    [
      "another rope per layer",
      { layer_types: ["full_attention"], rope_parameters: { full_attention: {} } },
      /rope_parameters\.full_attention: /,
    ],
    [
      "a wrong length outside",
      { original_max_position_embeddings: "8k", rope_scaling: { type: "yarn", factor: 2 } },
      /config\.json: original_max_position_embeddings: /,
    ],
  ];
  for (const [what, fields, message] of refusals) {
    it(`refuses ${what}`, () => {
      const read = (): unknown => ropeParameters({ ...base, ...fields }, "config.json");
      expect(read).toThrow(QdoraError);
      expect(read).toThrow(message);
    });
  }

  it("prefers rope_scaling, and theta inside over theta outside", () => {
    const rope = ropeParameters(
      {
        ...base,
        rope_theta: 5e5,
        rope_scaling: { type: "linear", factor: 2, rope_theta: 2e6 },
        rope_parameters: { rope_type: "default" },
      },
      "config.json",
    );
    expect(rope).toEqual({ type: "linear", theta: 2e6, attentionFactor: 1, factor: 2 });
  });

  it("takes an empty rope_scaling for none", () => {
    const rope = ropeParameters(
      { ...base, rope_scaling: {}, rope_parameters: { rope_type: "default", rope_theta: 5e5 } },
      "config.json",
    );
    expect(rope).toEqual({ type: "default", theta: 5e5, attentionFactor: 1 });
  });
});
