/** Where the time goes: `finetune --profile` and `bench throughput`, through the built command line. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { expectRefused, LLAMA, qdora, storyFolder, TINY, writeRows } from "./qdora.js";

const folder = storyFolder();
const rows = Array.from({ length: 4 }, (_, i) => ({
  input_ids: Array.from({ length: 20 }, (_token, t) => 1 + ((i * 7 + t * t * 3) % 300)),
}));
const data = writeRows(join(folder, "train.jsonl"), rows);
let runs = 0;

async function train(model: string, flags: readonly string[]) {
  const out = join(folder, `run-${runs++}`);
  const base = `finetune --model ${model} --data ${data} --output-dir ${out} --max-steps 3 --batch-size 2 --gradient-accumulation-steps 1 --warmup-steps 0 --tune off`;
  const run = await qdora([...base.split(" "), ...flags]);
  expect(run.status, run.stderr).toBe(0);
  return { adapter: readFileSync(join(out, "adapter_model.safetensors")), stderr: run.stderr };
}

interface Row {
  readonly kernel: string;
  readonly calls: number;
  readonly ms: number;
  readonly share: number;
}

/** Rows of the table; the last is the sum. */
function tableOf(stderr: string): readonly Row[] {
  return stderr
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .filter((cells) => cells.length === 10 && Number(cells[3]) > 0)
    .map((cells) => ({
      kernel: cells[1] ?? "",
      calls: Number(cells[3]),
      ms: Number(cells[4]),
      share: parseFloat(cells[5] ?? ""),
    }));
}

interface TraceEvent {
  readonly ph: string;
  readonly cat?: string;
  readonly ts: number;
  readonly dur: number;
}

it("profiles one step of the tiny model by kernel, transfers too, and changes no bit of the result", async () => {
  const trace = join(folder, "trace.json");
  const plain = await train(TINY, ["--stream-layers", "2"]);
  const timed = await train(TINY, ["--stream-layers", "2", "--profile", "--profile-trace", trace]);
  expect(timed.adapter.equals(plain.adapter)).toBe(true);
  expect(plain.stderr).not.toMatch(/profile/);
  expect(timed.stderr).toMatch(/profile of step 2 on /);
  const table = tableOf(timed.stderr);
  const all = table.at(-1);
  const kernels = table.slice(0, -1);
  expect(all?.kernel).toBe("all");
  const names = kernels.map((r) => r.kernel);
  for (const name of [
    "nf4_product_forward",
    "nf4_product_backward",
    "dora_row_norm",
    "attention_forward",
    "adamw",
    "upload",
  ])
    expect(names).toContain(name);
  // Each share is rounded to 0.1 %.
  expect(Math.abs(kernels.reduce((sum, r) => sum + r.share, 0) - 100)).toBeLessThan(0.05 * kernels.length);
  expect(kernels.reduce((sum, r) => sum + r.calls, 0)).toBe(all?.calls);
  expect(timed.stderr).toMatch(/best product of this adapter: \d+ GFLOP\/s \(\S+ .+, \d+ x \d+ x \d+\)/);
  const { traceEvents } = JSON.parse(readFileSync(trace, "utf8")) as { traceEvents: TraceEvent[] };
  const spans = traceEvents.filter((e) => e.ph === "X");
  expect(spans.length).toBe(all?.calls);
  expect(spans.every((e) => e.ts >= 0 && e.dur >= 0)).toBe(true);
  const sumMs = spans.reduce((sum, e) => sum + e.dur, 0) / 1000;
  // The table rounds to 0.01 ms.
  expect(Math.abs(sumMs - (all?.ms ?? NaN))).toBeLessThan(0.02);
});

it("profiles the only step of a run of one, and refuses what cannot be profiled or written before it starts", async () => {
  const { stderr } = await train(LLAMA, ["--max-steps", "1", "--profile"]);
  expect(stderr).toMatch(/profile of step 1 on /);
  const out = join(folder, "refused");
  const base = ["finetune", "--model", LLAMA, "--data", data, "--output-dir", out];
  expectRefused(await qdora([...base, "--dry-run", "--profile"]), 2, /--dry-run makes none/);
  const trace = join(folder, "nowhere", "trace.json");
  expectRefused(await qdora([...base, "--profile-trace", trace]), 2, /its folder is not there/);
  expect(existsSync(out)).toBe(false);
});

it("measures tokens per second of the tiny model, method against method", async () => {
  const flags = `bench throughput --model ${TINY} --lengths 32 --quants nf4,none --steps 2 --tune off --json --profile`;
  const run = await qdora(flags.split(" "));
  expect(run.status, run.stderr).toBe(0);
  const lines = run.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number | string | boolean>);
  expect(lines.map((l) => `${l["quant"]} ${l["method"]}`)).toEqual([
    "nf4 dora",
    "nf4 lora",
    "none dora",
    "none lora",
  ]);
  for (const line of lines) {
    expect(line["tokens"]).toBe(32);
    expect(line["interleaved"]).toBe(true);
    expect(Number(line["tokensPerSecond"]) * Number(line["stepSeconds"])).toBeCloseTo(32, 6);
    expect(line["gradNorm"]).toBeGreaterThan(0);
    expect(line["productShare"]).toBeGreaterThan(0);
    expect(line["productShare"]).toBeLessThan(1);
    for (const name of ["stepEfficiency", "dispatchShare", "hostMs", "dispatches"])
      expect(line[name], name).toBeGreaterThan(0);
    expect(Number.isInteger(line["dispatches"])).toBe(true);
    expect(Number(line["hostMs"])).toBeLessThan(1000 * Number(line["stepSeconds"]));
    const peak = Number(line["productPeakFlops"]);
    expect(Number(line["tokensPerSecondPerTeraflop"])).toBeCloseTo(
      Number(line["tokensPerSecond"]) / (peak / 1e12),
      6,
    );
    expect(line["timeOverLora"] === undefined).toBe(line["method"] === "lora");
  }
  expect(tableOf(run.stderr).filter((row) => row.kernel === "all")).toHaveLength(4);
});

it("measures one after the other where both do not fit, says so, and refuses wrong lists", async () => {
  const base = `bench throughput --geometry smollm2-135m --lengths 16 --steps 1 --tune off`.split(" ");
  const plan = await qdora(
    "plan --geometry smollm2-135m --max-seq-length 16 --batch-size 1 --json".split(" "),
  );
  const { gpu_bytes: bytes } = JSON.parse(plan.stdout) as { gpu_bytes: number };
  const run = await qdora([...base, "--memory-limit", String(bytes)]);
  expect(run.status, run.stderr).toBe(0);
  expect(run.stderr).toMatch(/one after the other/);
  expect(run.stdout).toMatch(/\| smollm2-135m \| nf4 \| dora \| 1 x 16 \| [\d|., %]+/);
  expect(run.stdout).toMatch(/they ran one after the other/);
  expectRefused(await qdora([...base, "--methods", "full"]), 2, /does not know "full"/);
  expectRefused(await qdora([...base, "--model", TINY]), 2, /--model and --geometry/);
  expectRefused(await qdora(["bench", "throughput"]), 2, /neither --model nor --geometry/);
});
