/** `npm run bench:peers`, the parts that need no peer: ONNX bytes, packing, ratios, the tables, refusals. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const load = (file: string): Promise<Record<string, any>> => import(`../../bench/peers/${file}.mjs`); // oxlint-disable-line typescript/no-explicit-any

/** Fields of a protobuf message: [number, varint or bytes]. Written from the wire format, not from the writer. */
function fields(bytes: Uint8Array): [number, number | Uint8Array][] {
  const found: [number, number | Uint8Array][] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const value = varint();
    if (key % 8 === 0) found.push([Math.floor(key / 8), value]);
    else {
      expect(key % 8).toBe(2);
      found.push([Math.floor(key / 8), bytes.subarray(at, at + value)]);
      at += value;
    }
  }
  expect(at).toBe(bytes.length);
  return found;
}

const text = (value: number | Uint8Array | undefined): string =>
  new TextDecoder().decode(value as Uint8Array);
const all = (bytes: number | Uint8Array | undefined, number: number): (number | Uint8Array)[] =>
  fields(bytes as Uint8Array)
    .filter(([n]) => n === number)
    .map(([, value]) => value);

it("writes a model that onnx.proto3 describes", async () => {
  const { onnxModel, FLOAT } = await load("onnx_bytes");
  const values = Float32Array.from({ length: 600 }, (_, i) => i / 8);
  const bytes: Uint8Array = onnxModel({
    op: "MatMulBnb4",
    domain: "com.microsoft",
    attributes: { K: 300, N: 2 },
    constants: [{ name: "w", type: FLOAT, shape: [300, 2], values }],
    x: [1, 300],
    y: [1, 2],
  });
  expect(all(bytes, 1)).toEqual([8]);
  expect(all(bytes, 8).map((opset) => [text(all(opset, 1)[0]), all(opset, 2)[0]])).toEqual([
    ["", 17],
    ["com.microsoft", 1],
  ]);
  const [graph] = all(bytes, 7);
  const [node] = all(graph, 1);
  expect([1, 2, 4, 7].map((n) => all(node, n).map(text))).toEqual([
    ["x", "w"],
    ["y"],
    ["MatMulBnb4"],
    ["com.microsoft"],
  ]);
  // AttributeProto: name, i, and type INT.
  expect(all(node, 5).map((a) => [text(all(a, 1)[0]), all(a, 3)[0], all(a, 20)[0]])).toEqual([
    ["K", 300, 2],
    ["N", 2, 2],
  ]);
  const [w] = all(graph, 5);
  expect([all(w, 1), all(w, 2), all(w, 8).map(text)]).toEqual([[300, 2], [1], ["w"]]);
  expect(new Float32Array(new Uint8Array(all(w, 9)[0] as Uint8Array).buffer)).toEqual(values);
  for (const [number, name, shape] of [
    [11, "x", [1, 300]],
    [12, "y", [1, 2]],
  ] as const) {
    const [info] = all(graph, number);
    const [tensorType] = all(all(info, 2)[0], 1);
    expect([text(all(info, 1)[0]), all(tensorType, 1)]).toEqual([name, [1]]);
    expect(all(all(tensorType, 2)[0], 1).map((dimension) => all(dimension, 1)[0])).toEqual(shape);
  }
});

it("packs codes in either order and dequantises them", async () => {
  const { makeProblem, packed, dequantised, transposed } = await load("problem");
  const problem = makeProblem(3, [64, 2]);
  const [first, second] = problem.codes;
  expect(packed(problem, true)[0]).toBe(first * 16 + second);
  expect(packed(problem, false)[0]).toBe(second * 16 + first);
  const w: Float32Array = dequantised(problem, "int4");
  expect(w[64]).toBe(Math.fround((problem.codes[64] - 8) * problem.scales[1]));
  expect(transposed(problem, w)[1]).toBe(w[64]);
  expect([problem.x.length, problem.codes.length, problem.scales.length]).toEqual([192, 128, 2]);
});

it("finds wrong numbers", async () => {
  const { relativeError, productFlops } = await load("numbers");
  expect(relativeError([1, -4], [1, -5])).toBeCloseTo(0.2, 12);
  expect(relativeError([1], [1, 2])).toBe(Infinity);
  expect(relativeError([Number.NaN, 1], [1, 1])).toBe(Infinity);
  expect(productFlops(256, [576, 1536])).toBe(452_984_832);
});

const row = (name: string, shape: string, gflops: number): object => ({ name, shape, gflops, ms: 1 });

it("compares each peer with the product of ours that it is like, shape by shape", async () => {
  const { productRatios, productsText } = await load("text");
  const result = {
    adapter: "a GPU",
    versions: { qdora: "1.2.3" },
    tokens: 256,
    rounds: 5,
    peers: [
      { peer: "onnxruntime", versions: { "onnxruntime-node": "1.0.0" }, adapter: "its own" },
      { peer: "tfjs", reason: "no network" },
    ],
    rows: [
      row("qdora nf4", "64->32", 80),
      row("qdora f32", "64->32", 40),
      row("onnxruntime MatMulBnb4", "64->32", 10),
      row("onnxruntime MatMul", "64->32", 10),
      row("qdora nf4", "32->64", 90),
      row("qdora f32", "32->64", 40),
      row("onnxruntime MatMulBnb4", "32->64", 5),
    ],
  };
  const ratios = productRatios(result);
  expect(ratios).toEqual([
    expect.objectContaining({ name: "onnxruntime MatMulBnb4", against: "qdora nf4", ratios: [8, 18] }),
    expect.objectContaining({ name: "onnxruntime MatMul", against: "qdora f32", ratios: [4, NaN], mean: 4 }),
  ]);
  expect(ratios[0].mean).toBeCloseTo(12, 12);
  const table: string = productsText(result, "a machine");
  expect(table).toContain("| qdora nf4 / onnxruntime MatMulBnb4 | 8.00x | 18.0x | 12.0x | >= 8x | yes |");
  expect(table).toContain("| qdora f32 / onnxruntime MatMul | 4.00x | - | 4.00x | >= 6x | no |");
  expect(table).toContain("- tfjs: left out, no network");
});

it("compares training with PEFT's run of the same checkpointing", async () => {
  const { trainingRatios, trainingText } = await load("text");
  const run = (name: string, tokensPerSecond: number, aboveRuntimeBytes: number): object => ({
    name,
    tokensPerSecond,
    aboveRuntimeBytes,
    runtimeBytes: 1e8,
    ms: 1,
    loss: 2,
    versions: {},
    ...(name.startsWith("qdora") && { adapter: "a GPU" }),
  });
  const result = {
    tokens: 256,
    rank: 16,
    threads: 2,
    rounds: 3,
    rows: [
      run("PEFT none", 100, 2e9),
      run("PEFT full", 60, 1e9),
      run("qdora none", 50, 5e8),
      run("qdora full", 45, 2e8),
    ],
  };
  expect(trainingRatios(result)).toEqual([
    { name: "qdora none", against: "PEFT none", rate: 0.5, peak: 0.25 },
    { name: "qdora full", against: "PEFT full", rate: 0.75, peak: 0.2 },
  ]);
  expect(trainingText(result, "a machine")).toContain("| 0.50x | 0.25x |");
});

it.each([
  [["--part", "speed"], /--part got "speed"/],
  [["--rounds", "0"], /--rounds got "0"/],
])("refuses %j", (args, message) => {
  const script = fileURLToPath(new URL("../../bench/peers.mjs", import.meta.url));
  const run = spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });
  expect(run.status).toBe(2);
  expect(run.stderr).toMatch(message);
  expect(run.stderr).toMatch(/^hint: /m);
});
