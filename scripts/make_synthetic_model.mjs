// Writes a model folder of a known geometry with random weights of realistic scale (bf16 shards and config.json, no tokenizer): shapes and
// file sizes of the real model for benches of loading and memory, without a download. The same seed gives the same bytes.
// usage (after `npm run build`): node scripts/make_synthetic_model.mjs GEOMETRY OUT [--layers N] [--seed N] [--max-shard-size 5GB]
import { parseArgs } from "node:util";
import { parseBytes } from "../dist/config/values.js";
import { QdoraError } from "../dist/formats/error.js";
import { GEOMETRIES } from "../dist/model/geometries.js";
import { writeSyntheticModel } from "./synthetic_model.mjs";

const USAGE = "GEOMETRY OUT [--layers N] [--seed N] [--max-shard-size 5GB]";

function fail(fact, hint, exitCode = 2) {
  console.error(`error: make_synthetic_model: ${fact}\nhint: ${hint}`);
  process.exit(exitCode);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        layers: { type: "string" },
        seed: { type: "string", default: "0" },
        "max-shard-size": { type: "string", default: "5GB" },
      },
    });
  } catch (error) {
    return fail(error.message, USAGE);
  }
}

function whole(text, flag, least) {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least)
    fail(`${flag}: got ${text}`, `a whole number from ${least} on`);
  return value;
}

const { positionals, values } = readArguments();
const [geometry, out] = positionals;
if (positionals.length !== 2) fail("expected two names", USAGE);
if (!GEOMETRIES.includes(geometry)) fail(`unknown geometry ${geometry}`, `one of ${GEOMETRIES.join(", ")}`);
const layers = values.layers === undefined ? undefined : whole(values.layers, "--layers", 1);
const seed = whole(values.seed, "--seed", 0);
const maxShardBytes = parseBytes(values["max-shard-size"]);
if (maxShardBytes === undefined)
  fail(`--max-shard-size: got ${values["max-shard-size"]}`, "a size such as 5GB");

try {
  const start = performance.now();
  const bytes = await writeSyntheticModel(geometry, out, { layers, seed, maxShardBytes });
  const seconds = (performance.now() - start) / 1000;
  console.error(
    `${out}: ${geometry}, ${(bytes / 1e9).toFixed(2)} GB in ${seconds.toFixed(1)} s (${Math.round(bytes / 1e6 / seconds)} MB/s)`,
  );
} catch (error) {
  if (!(error instanceof QdoraError)) throw error;
  fail(error.message, error.hint ?? USAGE, error.exitCode);
}
