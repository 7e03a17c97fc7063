// DoRA against LoRA on the same model, batch and rank: optimizer steps in turns, with what `qdora bench throughput` says of them.
// usage: npm run bench:dora [-- --model FOLDER] [--cases none:1x256,full:1x256] [--rounds N] [--pairs N] [--quant nf4|none] [--rank 16] [--profile] [--json | --write]   (the model: SmolLM2-135M of `npm run test:real`)
// A case is gradient_checkpointing:ROWSxLENGTH, all of it one micro-batch. Cases of more than 1,024 tokens get half of the rounds and
// pairs. Two sessions of a pair differ by some per cent for as long as they live, by where their buffers lie: so pairs are opened anew,
// the one or the other method first, and what is said is the middle of the pairs.
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
import { adapterText, machineText, ownVersions, vectorBits } from "./shared/machine.mjs";
import { refuseIn } from "./shared/refuse.mjs";
import { sectionOf, writeSection } from "./shared/section.mjs";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: process.env.QDORA_SMOLLM2 ?? "" },
    cases: {
      type: "string",
      default: "none:1x256,selective:1x256,full:1x256,none:8x256,selective:8x256",
    },
    rounds: { type: "string", default: "7" },
    pairs: { type: "string", default: "5" },
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
for (const name of ["rounds", "pairs"])
  if (!/^[1-9]\d*$/.test(flags[name])) refuse(`--${name} is ${flags[name]}`, "give a whole number from 1 on");
const cases = flags.cases.split(",").map((name) => {
  const [, checkpointing, rows, length] =
    /^(none|selective|full):([1-9]\d*)x([1-9]\d*)$/.exec(name) ??
    refuse(`--cases has ${name}`, "give cases like none:1x256");
  return { checkpointing, rows: Number(rows), length: Number(length) };
});

/** The pair in the middle, by its ratio (of an even number the upper one), and the ratios of all. */
function middle(pairs) {
  const sorted = pairs.toSorted((a, b) => a.dora.timeOverLora - b.dora.timeOverLora);
  return { ...sorted[Math.floor(sorted.length / 2)], ratios: sorted.map((p) => p.dora.timeOverLora) };
}

const gpu = await openGpu();
try {
  const peak = await measureProductPeak(gpu);
  const results = [];
  for (const { checkpointing, rows, length } of cases) {
    const tokens = rows * length;
    const isLarge = tokens > MANY_TOKENS;
    const [rounds, most] = [flags.rounds, flags.pairs].map((n) => Math.ceil(Number(n) / (isLarge ? 2 : 1)));
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
    const pairs = [];
    for (let pair = 0; pair < most; pair++) {
      const what = {
        geometry: undefined,
        settings,
        methods: pair % 2 === 0 ? ["lora", "dora"] : ["dora", "lora"],
        steps: rounds,
        limit: undefined,
        sideBySideBytes: freemem() * 0.8,
      };
      const sides = await measureThroughput(what, gpu, console.error);
      const [lora, dora] = what.methods[0] === "lora" ? sides : sides.toReversed();
      pairs.push({ lora, dora });
      console.error(
        `${checkpointing}, ${rows} x ${length} tokens: DoRA / LoRA ${dora.timeOverLora.toFixed(3)} (${rounds} rounds)`,
      );
      if (flags.profile)
        for (const side of [lora, dora])
          console.error(`${side.method}\n${profileTable({ ...side.profile, peak })}`);
    }
    results.push({ checkpointing, rows, length, tokens, rounds, ...middle(pairs) });
  }
  const bits = vectorBits(gpu.traits);
  const text = doraText(results, {
    bits,
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
  if (flags.write)
    writeSection(fileURLToPath(new URL("RESULTS.md", import.meta.url)), sectionOf("steps", bits), text);
} finally {
  await gpu.destroy();
}
