/** A loss spike through the command line: the run goes back, leaves the data out, and stays the same whatever interrupts it. */
import { readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { expectRefused, LLAMA, qdora, storyFolder, writeRows } from "./qdora.js";
import { checkpoints, copyUpTo, expectSameBytes, numbers, succeed } from "./training.js";

const folder = storyFolder();
const STEPS = 42;

/** Two kinds of rows that are learnt at once. */
const usual = (i: number): object => ({
  input_ids: Array.from({ length: 12 }, (_, t) => 1 + ((t * 5 + (i % 2)) % 10)),
});
/** A row of tokens that never follow each other elsewhere. */
const poison = { input_ids: Array.from({ length: 12 }, (_, t) => 100 + ((t * t * 37 + 11) % 200)) };

/** Two rows a step, in the file's order. @param poisoned steps of data, counted from 0 */
function writeData(name: string, isPoisoned: (step: number) => boolean): string {
  const rows = Array.from({ length: 80 }, (_, i) => (isPoisoned(Math.floor(i / 2)) ? poison : usual(i)));
  return writeRows(join(folder, name), rows);
}

const data = writeData("train.jsonl", (step) => step === 25);
const SETTINGS = [
  `--rank 4 --shuffle false --batch-size 2 --gradient-accumulation-steps 1 --tune off`,
  `--max-steps ${STEPS} --learning-rate 2e-2 --lr-scheduler constant --save-steps 5`,
].flatMap((text) => text.split(" "));
const finetune = (out: string, ...more: readonly string[]): string[] => [
  "finetune",
  "--model",
  LLAMA,
  "--data",
  data,
  "--output-dir",
  out,
  ...SETTINGS,
  ...more,
];
const guarded = (out: string, ...more: readonly string[]): string[] =>
  finetune(out, "--loss-spike-rollback", "6", ...more);

const straight = join(folder, "straight");
let said = "";
beforeAll(async () => {
  said = (await succeed(guarded(straight))).stderr;
});

const CHECKPOINT_FILES = ["adapter_model.safetensors", "optimizer.safetensors", "trainer_state.json"];

function expectSameRun(out: string): void {
  expectSameBytes(straight, out, "adapter_model.safetensors");
  const last = `checkpoint-${STEPS}`;
  expectSameBytes(join(straight, last), join(out, last), ...CHECKPOINT_FILES);
  expect(numbers(out)).toEqual(numbers(straight));
}

describe("a loss spike", () => {
  it("makes the run go back to the checkpoint that was good, and is told in one line, in metrics and in the report", () => {
    // Checkpoint 25 is as new as the spike, so nothing shows that it is good.
    expect(said.match(/^step 26: .*$/gm)).toEqual([
      expect.stringMatching(
        /^step 26: loss \d\.\d{4} is a spike \(limit 0\.\d{4}\): back to checkpoint-20, the data of 3 steps up to it is left out \(rollback 1\)$/,
      ),
    ]);
    const lines = numbers(straight);
    const [told] = lines.filter((line) => "rollback" in line);
    expect(told).toMatchObject({ step: 20, rollback: 1, spike_step: 26 });
    expect(told?.["spike_loss"]).toBeGreaterThan(5);
    expect(lines.flatMap((line) => ("rollback" in line ? [] : (line["step"] ?? 0)))).toEqual(
      Array.from({ length: STEPS }, (_, i) => i + 1),
    );
    expect(Math.max(...lines.slice(10).map((line) => line["loss"] ?? 0))).toBeLessThan(0.3);
    expect(readFileSync(join(straight, "report.html"), "utf8")).toContain("Loss spike in step 26");
    const state = JSON.parse(
      readFileSync(join(straight, `checkpoint-${STEPS}`, "trainer_state.json"), "utf8"),
    );
    expect(state).toMatchObject({ rollbacks: [{ step: 26, to: 20, left_out: [23, 24, 25] }] });
    // Three of the forty steps of data are passed over.
    expect(state).toMatchObject({ epoch: (STEPS + 3) / 40 });
  });

  it("gives the adapter of a run over data without those rows", async () => {
    const rows = readFileSync(data, "utf8").trimEnd().split("\n");
    const clean = writeRows(join(folder, "clean.jsonl"), [...rows.slice(0, 46), ...rows.slice(52)]);
    const out = join(folder, "clean");
    await succeed(finetune(out, "--data", clean));
    expectSameBytes(straight, out, "adapter_model.safetensors");
  });

  it("spoils a run without the rule", async () => {
    const out = join(folder, "spoilt");
    await succeed(finetune(out));
    expect(numbers(out)[25]?.["loss"]).toBeGreaterThan(5);
  });

  it.each(["checkpoint-20", "checkpoint-25", "checkpoint-30"])(
    "leaves a run that is resumed from %s exact",
    async (name) => {
      const out = copyUpTo(straight, join(folder, name), name);
      await succeed(guarded(out, "--resume"));
      expectSameRun(out);
    },
  );

  it.each([`step 22/${STEPS}`, `step 24/${STEPS}`, "(rollback 1)", `step 31/${STEPS}`])(
    "leaves a run exact that is stopped at %j, with one checkpoint to keep",
    async (when) => {
      const out = join(folder, `stopped ${when.replaceAll(/\W/g, "-")}`);
      let isSent = false;
      const limited = guarded(out, "--save-total-limit", "1");
      const run = await qdora(limited, {
        onText: (stderr, child) => {
          if (!isSent && stderr.includes(when)) isSent = child.kill("SIGTERM");
        },
      });
      expect(run.status, run.stderr).toBe(143);
      await succeed([...limited, "--resume"]);
      expectSameRun(out);
      // The newest, and the regular one that a spike right after it would go back to.
      expect(checkpoints(out)).toEqual(["checkpoint-40", `checkpoint-${STEPS}`]);
    },
  );

  it("that comes again and again ends the run, which keeps its checkpoints and says from which a resumed one would not go the same way", async () => {
    const out = join(folder, "hopeless");
    // Without what rollbacks leave out, each is the data of step 26.
    const poisoned = writeData("hopeless.jsonl", (step) => [25, 28, 31, 34].includes(step));
    const run = await qdora(guarded(out, "--data", poisoned));
    expectRefused(
      run,
      1,
      /finetune: the loss of step 26 is a spike again .*after 3 rollbacks\nhint: --resume alone comes to the same: move checkpoint-25 out of the folder .*, lower learning_rate or raise loss_spike_rollback, and go on with --resume from checkpoint-20; /,
    );
    expect(run.stderr.match(/back to checkpoint-20, .*\(rollback \d\)/g)).toHaveLength(3);
    expect(checkpoints(out)).toContain("checkpoint-25");
    const again = await qdora(guarded(out, "--data", poisoned, "--resume"));
    expectRefused(again, 1, /the loss of step 26 is a spike again/);
    renameSync(join(out, "checkpoint-25"), join(folder, "aside"));
    const rate = ["--learning-rate", "1e-4", "--max-steps", "22"];
    const on = await succeed(guarded(out, "--data", poisoned, "--resume", ...rate));
    expect(on.stderr).toContain(`resume: going on from ${join(out, "checkpoint-20")}\n`);
  });

  it("is no wish without save_steps", async () => {
    const out = join(folder, "useless");
    const args = ["--model", LLAMA, "--data", data, "--output-dir", out, "--loss-spike-rollback", "6"];
    expectRefused(
      await qdora(["finetune", ...args]),
      2,
      /loss_spike_rollback: goes back to checkpoints, .*\nhint: set save_steps/,
    );
  });
});
