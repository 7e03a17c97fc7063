// Kills a training run at random moments (SIGKILL), resumes it each time, and compares the end with a run that nothing disturbed.
// Usage, after a build: sh scripts/with-gpu.sh node scripts/kill-test.mjs [KILLS 50] [SEED 1]
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [kills = 50, seed = 1] = process.argv.slice(2).map(Number);
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = mkdtempSync(join(tmpdir(), "qdora-kill-"));
const STEPS = 12 * kills;

let state = seed >>> 0;
/** mulberry32: the same seed kills at the same moments. */
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

const data = join(folder, "train.jsonl");
const rows = Array.from({ length: 45 }, (_, i) =>
  JSON.stringify({
    input_ids: Array.from({ length: 6 + (i % 9) }, (_token, t) => 1 + ((i * 7 + t * t * 3) % 300)),
  }),
);
writeFileSync(data, `${rows.join("\n")}\n`);

const args = (out) =>
  `finetune --model ${join(root, "test/fixtures/models/llama")} --data ${data} --output-dir ${out} --rank 4 --packing true --max-seq-length 32
   --gradient-accumulation-steps 3 --max-steps ${STEPS} --learning-rate 5e-3 --tune off`.split(/\s+/);

/** @param killAfterMs counted from the first step; negative: from the start. Undefined: not at all. */
function run(out, more, killAfterMs) {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(root, "dist/cli.js"), ...args(out), ...more]);
    let stderr = "";
    let timer;
    const arm = (ms) => (timer ??= setTimeout(() => child.kill("SIGKILL"), ms));
    if (killAfterMs < 0) arm(-killAfterMs);
    child.stderr.setEncoding("utf8").on("data", (text) => {
      stderr += text;
      if (killAfterMs >= 0 && /^step \d/m.test(stderr)) arm(killAfterMs);
    });
    child.stdout.resume();
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      done({ status, signal, stderr });
    });
  });
}

function fail(what, stderr) {
  console.error(`kill test: ${what}\n${stderr}\nfolder: ${folder}`);
  process.exit(1);
}

const straight = join(folder, "straight");
const first = await run(straight, []);
if (first.status !== 0) fail("the undisturbed run failed", first.stderr);

const out = join(folder, "killed");
const saving = ["--save-steps", "1", "--save-total-limit", "2", "--resume"];
const counts = { starting: 0, training: 0, saving: 0, fallbacks: 0 };
for (let i = 0; i < kills; i++) {
  // Every fifth while it starts; of the others each within some steps and saves.
  const { signal, status, stderr } = await run(
    out,
    saving,
    random() < 0.2 ? -20 - random() * 800 : random() * 400,
  );
  if (signal !== "SIGKILL") fail(`run ${i + 1} ended by itself (${status ?? signal})`, stderr);
  if (/cannot be used/.test(stderr)) counts.fallbacks += 1;
  const isSaving =
    existsSync(out) &&
    readdirSync(out, { withFileTypes: true }).some((e) => /^checkpoint-.*\.tmp$/.test(e.name));
  counts[isSaving ? "saving" : /^step \d/m.test(stderr) ? "training" : "starting"] += 1;
}
const last = await run(out, saving);
if (last.status !== 0) fail("the last run failed", last.stderr);

const adapter = (of) => readFileSync(join(of, "adapter_model.safetensors"));
if (!adapter(out).equals(adapter(straight)))
  fail("the adapter differs from the undisturbed run's", last.stderr);
const steps = readFileSync(join(out, "metrics.jsonl"), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line).step);
if (steps.length !== STEPS || steps.some((step, at) => step !== at + 1))
  fail("metrics.jsonl does not name each step once", steps.join(" "));
const left = readdirSync(out).filter((name) => /tmp|lock/.test(name));
if (left.length > 0) fail("temporary files remain", left.join(" "));
console.log(
  `kill test: ${kills} kills (${counts.starting} starting, ${counts.training} training, ${counts.saving} saving), ${counts.fallbacks} fallbacks; ${STEPS} steps, adapter byte for byte the same`,
);
rmSync(folder, { recursive: true });
