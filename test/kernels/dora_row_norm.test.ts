/** Row norms of the modules of a layer, and the small matrices behind them. */
import { describe, expect, it } from "vitest";
import { callAdapterGram, callDoraRowNorm } from "../../src/kernels/dora_row_norm.js";
import { compareWithTwin, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

/** Sums of up to 576 products in f32 against f64. */
const TOLERANCE = 3e-6;

describe("adapter_gram", () => {
  for (const [name, shapes] of [
    ["one", [[1, 1]]],
    [
      "quads",
      [
        [16, 576],
        [16, 192],
        [3, 64],
      ],
    ],
    [
      "odd widths",
      [
        [5, 33],
        [40, 7],
      ],
    ],
  ] as const) {
    it(`equals its twin: ${name}`, async () => {
      let at = 8;
      const factors = shapes.map(([rank, width]) => {
        const place = { rank, in: width, at };
        at += Math.ceil((rank * width) / 64) * 64;
        return place;
      });
      const stride = Math.max(...shapes.map(([rank]) => rank ** 2)) + 3;
      const call = callAdapterGram(
        "test",
        { a: given("a", [at]), gram: given("gram", [stride * shapes.length]) },
        factors,
        stride,
      );
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data: { a: randomF32(at, 1) } });
    });
  }

  it("refuses factors that lie outside", () => {
    const t = { a: given("a", [100]), gram: given("gram", [16]) };
    expect(() => callAdapterGram("test", t, [{ rank: 4, in: 25, at: 1 }], 16)).toThrow(/do not fit a/);
    expect(() => callAdapterGram("test", t, [{ rank: 4, in: 25, at: 0 }], 15)).toThrow(/do not fit a/);
  });
});

/** Places of modules one after the other, with a few elements between, and how much they take. */
function placed(shapes: readonly (readonly [out: number, rank: number, hasBias: boolean])[]) {
  const ends = { parameters: 4, product: 0, squares: 2, scales: 6 };
  const take = (name: keyof typeof ends, elements: number): number => {
    const at = ends[name];
    ends[name] += elements + 3;
    return at;
  };
  const places = shapes.map(([out, rank, hasBias], m) => ({
    out,
    rank,
    scaling: 2 / (m + 1),
    hasBias,
    b: take("parameters", out * rank),
    m: take("parameters", out),
    product: take("product", out * rank),
    square: take("squares", out),
    scale: take("scales", out * (hasBias ? 2 : 1)),
  }));
  return { places, ends, stride: Math.max(...shapes.map(([, rank]) => rank ** 2)) };
}

/** A At of each module: symmetric. */
function symmetric(ranks: readonly number[], stride: number): Float32Array {
  const gram = randomF32(stride * ranks.length, 2, 0.05);
  for (const [m, rank] of ranks.entries())
    for (let r = 0; r < rank; r++)
      for (let i = 0; i < r; i++)
        gram[m * stride + r * rank + i] = gram[m * stride + i * rank + r] ?? Number.NaN;
  return gram;
}

describe("dora_row_norm", () => {
  for (const [name, shapes] of [
    ["one row", [[1, 1, false]]],
    ["a bias", [[65, 5, true]]],
    [
      "two modules of one rank",
      [
        [576, 16, false],
        [65, 16, true],
      ],
    ],
    ["a rank that is not unrolled", [[65, 33, false]]],
    [
      "three modules",
      [
        [576, 16, false],
        [65, 3, true],
        [64, 16, false],
      ],
    ],
  ] as const) {
    it(`equals its twin: ${name}`, async () => {
      const { places, ends, stride } = placed(shapes);
      const t = {
        product: given("product", [ends.product]),
        gram: given("gram", [stride * places.length]),
        parameters: given("parameters", [ends.parameters]),
        squares: given("squares", [ends.squares]),
        scales: given("scales", [ends.scales]),
      };
      const data = {
        product: randomF32(ends.product, 1, 0.05),
        gram: symmetric(
          places.map(({ rank }) => rank),
          stride,
        ),
        parameters: randomF32(ends.parameters, 3),
        // Far from a sum of zero, where its sign would hang on rounding.
        squares: randomF32(ends.squares, 4).map((v) => 300 + v * v),
        scales: randomF32(ends.scales, 6),
      };
      await compareWithTwin(context.gpu, callDoraRowNorm("test", t, places, stride), {
        tolerance: TOLERANCE,
        data,
      });
    });
  }

  it("is the norm of W + s B A, and 0 for a row of zeros", () => {
    const [out, rank, K, s] = [3, 2, 5, 1.5];
    const w = Float64Array.from(randomF32(out * K, 1));
    w.fill(0, 2 * K);
    const a = Float64Array.from(randomF32(rank * K, 2));
    const b = Float64Array.from(randomF32(out * rank, 3));
    b.fill(0, 2 * rank);
    const product = Float64Array.from({ length: rank * out }, (_, i) => {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += a[Math.floor(i / out) * K + k]! * w[(i % out) * K + k]!;
      return sum;
    });
    const gram = new Float64Array(rank * rank);
    const [ta, tg] = [given("a", [rank * K]), given("gram", [rank * rank])];
    const gramCall = callAdapterGram("test", { a: ta, gram: tg }, [{ rank, in: K, at: 0 }], rank * rank);
    gramCall.kernel.twin({ a, gram }, gramCall);
    const squares = Float64Array.from({ length: out }, (_, j) =>
      w.subarray(j * K, (j + 1) * K).reduce((sum, v) => sum + v * v, 0),
    );
    const parameters = Float64Array.of(...b, 1, 2, 3);
    const scales = Float64Array.of(9, 10, 9, 20, 9, 30);
    const t = {
      product: given("product", [rank * out]),
      gram: tg,
      parameters: given("parameters", [parameters.length]),
      squares: given("squares", [out]),
      scales: given("scales", [2 * out]),
    };
    const place = {
      out,
      rank,
      scaling: s,
      hasBias: true,
      b: 0,
      m: out * rank,
      product: 0,
      square: 0,
      scale: 0,
    };
    const call = callDoraRowNorm("test", t, [place], rank * rank);
    call.kernel.twin({ product, gram, parameters, squares, scales }, call);
    for (let j = 0; j < 2; j++) {
      let norm2 = 0;
      for (let k = 0; k < K; k++) {
        let v = w[j * K + k]!;
        for (let r = 0; r < rank; r++) v += s * b[j * rank + r]! * a[r * K + k]!;
        norm2 += v * v;
      }
      expect(scales[2 * j]).toBeCloseTo((j + 1) / Math.sqrt(norm2), 12);
    }
    expect(scales[4]).toBe(0);
    expect([scales[1], scales[3], scales[5]]).toEqual([10, 20, 30]);
  });
});
