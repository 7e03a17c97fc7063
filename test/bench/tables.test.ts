/** What benches make of measurements: means, ratios and what is wanted of them, sections of Markdown files. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

type Module = Record<string, any>; // oxlint-disable-line typescript/no-explicit-any
const shared = (file: string): Promise<Module> => import(`../../bench/shared/${file}.mjs`);
const textOf = (bench: string): Promise<Module> => import(`../../bench/${bench}/text.mjs`);
const facts = { machine: "a machine", adapter: "an adapter", versions: { qdora: "1" } };

it("replaces its own section of a file and leaves the rest", async () => {
  const { writeSection } = await shared("section");
  const folder = mkdtempSync(join(tmpdir(), "qdora-section-"));
  const path = join(folder, "RESULTS.md");
  writeFileSync(path, "# Results\n\nMine.\n");
  for (const [name, text] of [
    ["gpus", "first"],
    ["steps", "other"],
    ["gpus", "second"],
  ])
    writeSection(path, name, text);
  const written = readFileSync(path, "utf8");
  for (const kept of ["Mine.", "second", "other"]) expect(written).toContain(kept);
  expect(written).not.toContain("first");
  rmSync(folder, { recursive: true });
});

it("takes the geometric mean", async () => {
  const { geometricMean } = await shared("numbers");
  expect(geometricMean([2, 8])).toBeCloseTo(4, 12);
});

it("compares the best variants of products, at each number of tokens that has both", async () => {
  const { productRatios, kernelsText } = await textOf("kernels");
  const row = (tokens: number, product: string, variant: string, gflops: number): object => ({
    tokens,
    shape: "8->8",
    product,
    variant,
    gflops,
  });
  const rows = [
    row(512, "f32 forward", "software", 30),
    row(512, "f32 forward", "8x8 tile", 15),
    row(512, "nf4 forward", "software", 40),
    row(512, "nf4 forward", "tile", 10),
    row(512, "nf4 dX", "software", 38),
    row(1, "f32 forward", "vector", 3),
    row(1, "nf4 forward", "vector", 9),
  ];
  const ratios = productRatios(rows);
  const at512 = ratios.filter((r: { tokens: number }) => r.tokens === 512);
  expect(at512.map((r: { ratio: number }) => r.ratio)).toEqual(
    [40 / 30, 38 / 40, 2].map((v) => expect.closeTo(v, 9)),
  );
  const text = kernelsText(rows, ratios, { ...facts, rounds: 5 });
  expect(text).toMatch(/\| NF4 dX \/ NF4 forward \| 512 \| 0\.95 \| 0\.95 \| >= 0\.95 \| yes \|/);
  expect(text).toMatch(/\| best f32 \/ plain 8x8 register tile \| 512 \| 2\.00 \| 2\.00 \| >= 3 \| no \|/);
  expect(text).not.toMatch(/\| 1 \| .* \| yes \|/);
});

it("says which steps of DoRA hold the price that they may have", async () => {
  const { doraText } = await textOf("dora");
  const side = (stepSeconds: number, more: object = {}): object => ({
    stepSeconds,
    tokensPerSecond: 100,
    stepEfficiency: 0.6,
    dispatchShare: 0.01,
    hostMs: 2,
    planBytes: 1e6,
    gradNorm: 1,
    ...more,
  });
  const result = (checkpointing: string, tokens: number, ratio: number): object => ({
    checkpointing,
    rows: 1,
    length: tokens,
    tokens,
    rounds: 3,
    lora: side(1),
    dora: side(ratio, { timeOverLora: ratio }),
    ratios: [ratio - 0.02, ratio, ratio + 0.04],
  });
  const text = doraText([result("none", 256, 1.05), result("none", 2048, 1.05), result("full", 256, 1.09)], {
    ...facts,
    model: "a model",
    peak: { flopsPerSecond: 1e11, name: "f32" },
    rank: 16,
    quant: "nf4",
  });
  const reached = text
    .split("\n")
    .filter((line: string) => /^\| (none|full)/.test(line))
    .map((line: string) => line.split(" | ").slice(5, 9));
  expect(reached).toEqual([
    ["1.050", "1.030-1.090", "<= 1.06", "yes"],
    ["1.050", "1.030-1.090", "<= 1.03", "no"],
    ["1.090", "1.070-1.130", "<= 1.10", "yes"],
  ]);
});
