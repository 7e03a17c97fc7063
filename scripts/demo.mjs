// The demo: what the tiny model answers, a short QDoRA fine-tune of it, what it answers then. `npm run demo` runs it from
// the repository root after the build; everything goes through the built command line. Arguments go to `qdora finetune`.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { parse } from "yaml";

const CONFIG = "models/tiny/demo/demo.yaml";
/** One of the held-out questions: the run never trains on it. */
const QUESTION = "We must go out. Is there rain over the island?";
/** Where stderr is no terminal, a line every so many steps. */
const STEPS_A_LINE = 20;

const started = Date.now();
const say = (line = "") => process.stderr.write(`${line}\n`);

/**
 * Runs `qdora COMMAND…`.
 * @param onLine called with each line that it prints for people
 * @returns its standard output; the demo ends with the command's exit code where it fails
 */
async function qdora(command, onLine = () => {}) {
  const child = spawn(process.execPath, ["dist/cli.js", ...command], { stdio: ["ignore", "pipe", "pipe"] });
  const closed = once(child, "close");
  const lines = [];
  createInterface({ input: child.stderr }).on("line", (line) => {
    lines.push(line);
    onLine(line);
  });
  const output = await text(child.stdout);
  const [code, signal] = await closed;
  if (code !== 0) {
    say(lines.join("\n"));
    say(`The demo stopped: qdora ${command[0]} ended with ${signal ?? `exit code ${code}`}.`);
    process.exit(code ?? 1);
  }
  return output;
}

/** The model's greedy answer to the question, indented. */
async function answer(model, ...more) {
  const flags = ["--model", model, "--chat", "--prompt", QUESTION, "--max-new-tokens", "80", "--json"];
  const { text: said } = JSON.parse(await qdora(["generate", ...flags, ...more]));
  return said
    .trimEnd()
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
}

/** Shows the lines about the GPU and the steps: steps on one line of a terminal, one below the other elsewhere. */
function showProgress(line) {
  if (!/^(gpu: |step )/.test(line)) return;
  const isStep = line.includes("  loss ");
  if (!process.stderr.isTTY) say(`  ${line}`);
  else process.stderr.write(`\r\u001b[2K  ${line.slice(0, process.stderr.columns - 3)}${isStep ? "" : "\n"}`);
}

/** The settings that a run resolved to, and its held-out losses. */
function readRun(folder) {
  const settings = parse(readFileSync(join(folder, "qdora_config.yaml"), "utf8"));
  const metrics = readFileSync(join(folder, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  const losses = metrics.map((line) => JSON.parse(line).eval_loss).filter((loss) => loss !== undefined);
  return { settings, before: losses.at(0), after: losses.at(-1) };
}

const { model, output_dir: folder } = parse(readFileSync(CONFIG, "utf8"));
const logging = process.stderr.isTTY ? [] : ["--logging-steps", `${STEPS_A_LINE}`];

say("qdora demo: a base model of 2.8 million parameters learns to keep a ship's log.");
say();
say(`Asked before: ${QUESTION}`);
say(await answer(model));
say();
say(`Fine-tuning with ${CONFIG}:`);
await qdora(
  ["finetune", "--config", CONFIG, ...logging, ...process.argv.slice(2), "--output-dir", folder],
  showProgress,
);
say();
say(`Asked after: ${QUESTION}`);
say(await answer(model, "--adapter", folder));
say();
const { settings, before, after } = readRun(folder);
say(`Held-out loss   ${before.toFixed(3)} before, ${after.toFixed(3)} after ${settings.max_steps} steps`);
say(`Adapter         ${folder}/adapter_model.safetensors (PEFT's format)`);
say(`Report          ${folder}/report.html`);
say(`Time            ${Math.round((Date.now() - started) / 1000)} s`);
say();
say("Ask it something else:");
say(`  sh scripts/with-gpu.sh node dist/cli.js generate --model ${model} --adapter ${folder} --chat \\`);
say('    --prompt "Will there be fog over London?"');
