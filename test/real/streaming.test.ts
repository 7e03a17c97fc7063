/** SmolLM2-135M resident, half streamed and fully streamed: the same bits. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";

const model = process.env["QDORA_SMOLLM2"] ?? "";
const cli = join(import.meta.dirname, "../../dist/cli.js");
const data = join(FIXTURES, "smollm2", "messages.jsonl");

function train(streamed: string): { readonly losses: readonly number[]; readonly adapter: Buffer } {
  const out = mkdtempSync(join(tmpdir(), "qdora-real-"));
  const flags = `--model ${model} --data ${data} --output-dir ${out} --max-steps 2 --gradient-accumulation-steps 1 --max-seq-length 48 --learning-rate 1e-3 --warmup-steps 0 --tune off --stream-layers ${streamed}`;
  const run = spawnSync(process.execPath, [cli, "finetune", ...flags.split(" ")], { encoding: "utf8" });
  expect(run.status, run.stderr).toBe(0);
  const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n");
  const adapter = readFileSync(join(out, "adapter_model.safetensors"));
  rmSync(out, { recursive: true });
  return { losses: lines.map((line) => (JSON.parse(line) as { loss: number }).loss), adapter };
}

it("gives the same losses and adapter however many layers are streamed", () => {
  const resident = train("0");
  expect(resident.losses).toHaveLength(2);
  for (const streamed of ["15", "all"]) {
    const run = train(streamed);
    expect(run.losses).toEqual(resident.losses);
    expect(run.adapter.equals(resident.adapter)).toBe(true);
  }
});
