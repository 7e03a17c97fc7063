// Our products against those of onnxruntime, tfjs and jax-js on the same adapter, and our training against PEFT + bitsandbytes on the CPU.
// usage: npm run bench:peers [-- --part products|training] [--tokens N] [--rounds N] [--only PATTERN] [--model FOLDER] [--json | --write]
// QDORA_PEFT_PYTHON: a Python with torch, transformers, peft and bitsandbytes; without it, training is left out.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { measureProducts } from "./peers/products.mjs";
import { productRatios, productsText, trainingRatios, trainingText } from "./peers/text.mjs";
import { measureTraining } from "./peers/training.mjs";
import { machineText } from "./shared/machine.mjs";
import { refuseIn } from "./shared/refuse.mjs";
import { sectionOf, writeSection } from "./shared/section.mjs";

const { values: flags } = parseArgs({
  options: {
    part: { type: "string", default: "products,training" },
    tokens: { type: "string", default: "256" },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    model: { type: "string", default: process.env.QDORA_SMOLLM2 ?? "" },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});

/** Those of bench/kernels.mjs. */
const SHAPES = [
  [576, 1536],
  [1536, 576],
  [2048, 2048],
  [2048, 5632],
];
const RESULTS = fileURLToPath(new URL("PEERS.md", import.meta.url));

const refuse = refuseIn("bench:peers");
const say = (line) => console.error(line);
const parts = flags.part.split(",");
const unknown = parts.find((part) => !["products", "training"].includes(part));
if (unknown !== undefined) refuse(`--part got "${unknown}"`, "products, training, or both with a comma");
for (const name of ["tokens", "rounds"])
  if (!(Number.isInteger(Number(flags[name])) && Number(flags[name]) > 0))
    refuse(`--${name} got "${flags[name]}"`, "give a whole number, 1 or more");
const rounds = Number(flags.rounds);
const machine = machineText();

function show(name, result, text, ratios) {
  if (flags.json) console.log(JSON.stringify({ part: name, machine, ...result, ratios }));
  else console.log(`${text}\n`);
  if (flags.write) writeSection(RESULTS, name, text);
}

try {
  if (parts.includes("products")) {
    const asked = { tokens: Number(flags.tokens), shapes: SHAPES, rounds, only: flags.only };
    const result = await measureProducts(asked, say);
    show(sectionOf("products", result.bits), result, productsText(result, machine), productRatios(result));
  }
  if (parts.includes("training")) {
    const python = process.env.QDORA_PEFT_PYTHON;
    if (!python) {
      say(
        "training is left out: QDORA_PEFT_PYTHON names no Python with torch, transformers, peft and bitsandbytes",
      );
    } else if (flags.model === "") {
      refuse("no model", "give --model FOLDER, or QDORA_SMOLLM2=FOLDER");
    } else {
      const result = await measureTraining({ model: flags.model, python, rounds }, say);
      show("training", result, trainingText(result, machine), trainingRatios(result));
    }
  }
} catch (error) {
  console.error(`error: bench:peers: ${error.message}`);
  process.exitCode = 1;
}
