// Training against PEFT + bitsandbytes on the CPU: the same model, row, rank and number of threads; steps take turns.
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "../shared/numbers.mjs";

export const TRAINING = { tokens: 256, rank: 16, alpha: 32, learning_rate: 1e-4 };
/** Our choices of gradient checkpointing, and the one of PEFT's that keeps as much; `least`: the rate over PEFT's has to be that. */
export const SIDES = [
  { name: "PEFT none", peft: false },
  { name: "PEFT full", peft: true },
  { name: "qdora none", own: "none", against: "PEFT none" },
  { name: "qdora selective", own: "selective", against: "PEFT none" },
  { name: "qdora full", own: "full", against: "PEFT full" },
];
export const LEAST_RATE = 0.45;
export const LARGEST_PEAK = 0.25;
/** Both quantise absmax by rules of their own and sum in other orders. */
const LOSS_TOLERANCE = 2e-3;

const here = (file) => fileURLToPath(new URL(file, import.meta.url));

/** Set by with-gpu.sh for the software GPU's compiler; PEFT runs with what the machine has. */
const MALLOC_SETTINGS = ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"];
const peftEnv = () =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !MALLOC_SETTINGS.includes(name)));

/** A training process: `step()` and `end()` give what it prints. */
async function start(name, command, args, env = process.env) {
  const child = spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (text) => (said = (said + text).slice(-2000)));
  const ended = new Promise((_, reject) => {
    child.on("error", (error) => reject(new Error(`${name} does not start: ${error.message}`)));
    child.on("close", (code) =>
      reject(new Error(`${name} ended with ${code}: ${said.trim().split("\n").at(-1)}`)),
    );
  });
  ended.catch(() => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await Promise.race([lines.next(), ended]);
    return done ? ended : JSON.parse(value);
  };
  try {
    return {
      name,
      times: [],
      ready: await answer(),
      step() {
        child.stdin.write("step\n");
        return answer();
      },
      end() {
        child.stdin.end();
        return answer();
      },
      kill: () => void child.kill("SIGKILL"),
    };
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}

function startSide({ name, peft, own }, { model, python }) {
  const ids = Array.from({ length: TRAINING.tokens }, (_, i) => (i * 104729) % 32000);
  const threads = availableParallelism();
  const asked = JSON.stringify({ ...TRAINING, model, ids, threads, checkpointing: own ?? peft });
  return own === undefined
    ? start(name, python, [here("peft_training.py"), asked], peftEnv())
    : start(name, process.execPath, [here("qdora_training.mjs"), asked]);
}

/** @returns rows with tok/s and process peak above the idle runtime. Without `python` only ours. @throws Error where losses differ */
export async function measureTraining({ model, python, rounds }, say) {
  const sides = [];
  try {
    for (const side of SIDES.filter(({ own }) => own !== undefined || python)) {
      say(`loading the model: ${side.name}`);
      sides.push(await startSide(side, { model, python }));
    }
    const first = [];
    for (const side of sides) first.push((await side.step()).loss); // compiles
    const worst = Math.max(...first.map((loss) => Math.abs(loss / first[0] - 1)));
    if (!(worst <= LOSS_TOLERANCE)) throw new Error(`losses of the first step differ: ${first.join(", ")}`);
    for (let round = 0; round < rounds; round++) {
      say(`training: round ${round + 1} of ${rounds}`);
      for (const side of round % 2 === 0 ? sides : sides.toReversed())
        side.times.push((await side.step()).ms);
    }
    const rows = [];
    for (const [i, side] of sides.entries()) {
      const { name, times, ready } = side;
      const { runtimeBytes, peakBytes } = await side.end();
      const ms = median(times);
      const aboveRuntimeBytes = peakBytes - runtimeBytes;
      rows.push({
        name,
        ms,
        tokensPerSecond: (TRAINING.tokens / ms) * 1000,
        aboveRuntimeBytes,
        runtimeBytes,
        loss: first[i],
        ...ready,
      });
    }
    return { ...TRAINING, threads: availableParallelism(), rounds, rows };
  } finally {
    for (const side of sides) side.kill();
  }
}
