/** Weights of every format with seeded content, for the tests of the products. */
import { f32ToBf16, f32ToF16 } from "../../src/formats/floats.js";
import { doubleQuantLayout, type Weight } from "../../src/kernels/weight.js";
import { given, random, randomF32 } from "./harness.js";

export type TestFormat = Weight["format"] | "nf4 nested";

export interface TestWeight {
  readonly weight: Weight;
  /** By binding name, as the executor uploads it. */
  readonly data: Readonly<Record<string, ArrayBufferView>>;
}

export function testWeight(
  format: TestFormat,
  out: number,
  inputs: number,
  blockSize = 64,
  seed = 7,
): TestWeight {
  const values = given("w", [out, inputs], format === "bf16" || format === "f16" ? format : "f32");
  switch (format) {
    case "f32":
      return { weight: { format, out, in: inputs, values }, data: { values: randomF32(out * inputs, seed) } };
    case "bf16":
      return {
        weight: { format, out, in: inputs, values },
        data: { values: f32ToBf16(randomF32(out * inputs, seed)) },
      };
    case "f16":
      return {
        weight: { format, out, in: inputs, values },
        data: { values: f32ToF16(randomF32(out * inputs, seed)) },
      };
    case "int8":
      return {
        weight: {
          format,
          out,
          in: inputs,
          codes: given("w.codes", [out, Math.ceil(inputs / 4)], "u32"),
          absmax: given("w.absmax", [out]),
        },
        data: {
          codes: int8Codes(out * Math.ceil(inputs / 4), seed),
          absmax: randomF32(out, seed + 1).map((v) => 0.1 + Math.abs(v)),
        },
      };
    case "nf4":
    case "nf4 nested": {
      const isNested = format === "nf4 nested";
      const blocks = Math.ceil((out * inputs) / blockSize);
      const next = random(seed);
      const bits = (count: number): Uint32Array =>
        Uint32Array.from({ length: count }, () => Math.floor(Math.abs(next()) * 1e9) & 0xffff);
      const codes = bits(out * Math.ceil(inputs / 8)).map(
        (low, i) => (low | ((low * 40503 + i * 977) << 16)) >>> 0,
      );
      return {
        weight: {
          format: "nf4",
          out,
          in: inputs,
          blockSize,
          doubleQuant: isNested,
          codes: given("w.codes", [out, Math.ceil(inputs / 8)], "u32"),
          absmax: isNested
            ? given("w.absmax", [doubleQuantLayout(blocks).words], "u32")
            : given("w.absmax", [blocks]),
        },
        data: {
          codes,
          absmax: isNested
            ? doubleQuantised(blocks, bits(blocks))
            : randomF32(blocks, seed + 1).map((v) => 0.1 + Math.abs(v)),
        },
      };
    }
    default:
      throw new Error(String(format satisfies never));
  }
}

/** Words of bytes -127 .. 127, those after the end of a row too: a product that reads them in error is off by far. */
function int8Codes(words: number, seed: number): Uint32Array {
  const next = random(seed);
  const bytes = Int8Array.from({ length: 4 * words }, () => (Math.floor(Math.abs(next()) * 1e9) % 255) - 127);
  return new Uint32Array(bytes.buffer);
}

function doubleQuantised(blocks: number, codes: Uint32Array): Uint32Array {
  const { codesWord, words } = doubleQuantLayout(blocks);
  const packed = new Uint32Array(words);
  const floats = new Float32Array(packed.buffer);
  for (let i = 0; i < codesWord; i++)
    floats[i] = i < 256 ? (i - 127.5) / 128 : i === 256 ? 1.5 : 0.5 + 0.1 * (i - 256);
  new Uint8Array(packed.buffer).set(
    codes.map((v) => v & 255),
    4 * codesWord,
  );
  return packed;
}
