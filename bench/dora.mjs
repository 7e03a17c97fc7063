// DoRA against LoRA on the same model, batch and rank: optimizer steps in turns, with what `qdora bench throughput` says of them.
// usage: npm run bench:dora [-- --model FOLDER] [--cases none:1x256,full:1x256] [--rounds N] [--quant nf4|none] [--rank 16] [--profile] [--json | --write]   (the model: SmolLM2-135M of `npm run test:real`)
// A case is gradient_checkpointing:ROWSxLENGTH, all of it one micro-batch. Cases of more than 1,024 tokens get a third of the rounds.
import { freemem } from "node:os";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { resolveFinetuneConfig } from "../dist/config/resolve.js";
import { openGpu } from "../dist/gpu/device.js";
import { measureProductPeak } from "../dist/kernels/product_peak.js";
import { profileTable } from "../dist/report/profile.js";
import { measureThroughput } from "../dist/train/throughput_bench.js";
import { doraText } from "./dora/text.mjs";
import { adapterText, machineText, ownVersions } from "./shared/machine.mjs";
import { refuseIn } from "./shared/refuse.mjs";
import { writeSection } from "./shared/section.mjs";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: process.env.QDORA_SMOLLM2 ?? "" },
    cases: {
      type: "string",
      default: "none:1x256,selective:1x256,full:1x256,none:8x256,selective:8x256",
    },
    rounds: { type: "string", default: "15" },
    quant: { type: "string", default: "nf4" },
    rank: { type: "string", default: "16" },
    profile: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const MANY_TOKENS = 1024;

const refuse = refuseIn("bench:dora");

if (flags.model === "") refuse("no model", "give --model FOLDER, or QDORA_SMOLLM2=FOLDER");
if (!/^[1-9]\d*$/.test(flags.rounds)) refuse(`--rounds is ${flags.rounds}`, "give a whole number from 1 on");
const cases = flags.cases.split(",").map((name) => {
  const [, checkpointing, rows, length] =
    /^(none|selective|full):([1-9]\d*)x([1-9]\d*)$/.exec(name) ??
    refuse(`--cases has ${name}`, "give cases like none:1x256");
  return { checkpointing, rows: Number(rows), length: Number(length) };
});

const gpu = await openGpu();
try {
  const peak = await measureProductPeak(gpu);
  const results = [];
  for (const { checkpointing, rows, length } of cases) {
    const tokens = rows * length;
    const rounds = Math.max(1, Math.round(Number(flags.rounds) / (tokens > MANY_TOKENS ? 3 : 1)));
    const settings = await resolveFinetuneConfig(
      {
        model: flags.model,
        quant: flags.quant,
        rank: Number(flags.rank),
        gradient_checkpointing: checkpointing,
        batch_size: rows,
        max_seq_length: length,
      },
      undefined,
      ["data", "output_dir"],
    );
    const what = {
      geometry: undefined,
      settings,
      methods: ["lora", "dora"],
      steps: rounds,
      limit: undefined,
    };
    const memory = { sideBySideBytes: freemem() * 0.8 };
    const [lora, dora] = await measureThroughput({ ...what, ...memory }, gpu, console.error);
    if (flags.profile)
      for (const side of [lora, dora])
        console.error(`${side.method}\n${profileTable({ ...side.profile, peak })}`);
    results.push({ checkpointing, rows, length, tokens, rounds, lora, dora });
    console.error(
      `${checkpointing}, ${rows} x ${length} tokens: DoRA / LoRA ${dora.timeOverLora.toFixed(3)} (${rounds} rounds)`,
    );
  }
  const text = doraText(results, {
    machine: machineText(),
    adapter: adapterText(gpu.traits),
    versions: ownVersions(),
    model: basename(flags.model),
    peak,
    rank: flags.rank,
    quant: flags.quant,
  });
  const plain = ({ profile: _, ...side }) => side;
  if (flags.json)
    for (const { lora, dora, ...rest } of results)
      console.log(JSON.stringify({ ...rest, lora: plain(lora), dora: plain(dora) }));
  else console.log(text);
  if (flags.write) writeSection(fileURLToPath(new URL("RESULTS.md", import.meta.url)), "steps", text);
} finally {
  await gpu.destroy();
}
