/** The output folder of a finished run: PEFT adapter, tokenizer files, model card, resolved settings. */
import { randomBytes } from "node:crypto";
import { constants, existsSync, mkdirSync, rmdirSync, statSync } from "node:fs";
import { access, readdir, readFile, realpath, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { FactorValues } from "../adapter/initial.js";
import { adapterToPeft } from "../adapter/peft.js";
import { isAllLinear } from "../adapter/targets.js";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { cannotMake, makeFolder } from "../formats/make_folder.js";
import { TOKENIZER_FILES } from "../formats/model_files.js";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, writePeftAdapter, type PeftConfig } from "../formats/peft.js";
import { baseRecord } from "../model/base_record.js";
import { listCheckpoints, removeCheckpoint } from "./checkpoint_folder.js";
import type { PreparedRun } from "./prepare.js";
import type { TrainingSettings } from "./settings.js";

/** The resolved settings; it also marks a folder as that of a run. */
export const CONFIG_FILE = "qdora_config.yaml";

export const METRICS_FILE = "metrics.jsonl";

const RUN_FILES = new Set([
  ...TOKENIZER_FILES,
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  CONFIG_FILE,
  "README.md",
  METRICS_FILE,
  "report.html",
]);

/** Refuses an output folder that cannot be made or written, or that holds what the run reads. @throws QdoraError */
export async function checkOutputFolder(settings: TrainingSettings): Promise<void> {
  const { output_dir: out, model, init_adapter: adapter } = settings;
  let found = resolve(out);
  while (!existsSync(found)) found = dirname(found);
  if (!statSync(found).isDirectory())
    throw new QdoraError("output_dir", `${found} is a file`, "name a folder", { exitCode: 2 });
  await access(found, constants.W_OK).catch((cause: unknown) => {
    throw new QdoraError(
      "output_dir",
      `${found} may not be written`,
      "name another folder, or change its permissions",
      { cause },
    );
  });
  if (found !== resolve(out)) tryToMake(out, found);
  if (await isSameFolder(out, model)) {
    throw new QdoraError(
      "output_dir",
      `${out} is the model folder`,
      "name another folder, so that the base model stays as it is",
      { exitCode: 2 },
    );
  }
  if (adapter !== undefined && (await isSameFolder(out, adapter))) {
    throw new QdoraError(
      "output_dir",
      `${out} is the init_adapter folder`,
      "name another folder, so that the first adapter stays as it is",
      { exitCode: 2 },
    );
  }
  await checkForeignFiles(out);
}

/** Some systems say only then that they make no folder there. Nothing remains. */
function tryToMake(out: string, parent: string): void {
  const probe = join(parent, `.qdora.${randomBytes(6).toString("hex")}.tmp`);
  try {
    mkdirSync(probe);
    rmdirSync(probe);
  } catch (cause) {
    const { message, hint } = cannotMake(out, cause);
    throw new QdoraError("output_dir", message, hint, { cause });
  }
}

/** Files that a run would write over, in a folder that is not of a run. */
async function checkForeignFiles(out: string): Promise<void> {
  if (!existsSync(out) || existsSync(join(out, CONFIG_FILE))) return;
  const foreign = ["README.md", ADAPTER_CONFIG, ADAPTER_WEIGHTS, ...TOKENIZER_FILES].find((name) =>
    existsSync(join(out, name)),
  );
  if (foreign === undefined) return;
  throw new QdoraError(
    "output_dir",
    `${out} holds ${foreign}, which is of no run of qdora and would be written over`,
    "name another folder, or move the file away",
    { exitCode: 2 },
  );
}

const isSameFolder = async (a: string, b: string): Promise<boolean> =>
  existsSync(a) && existsSync(b) && (await realpath(a)) === (await realpath(b));

/**
 * Makes the folder. Files of an earlier run in it are deleted, so that none of them can be taken for this run's; a run that is resumed keeps its
 * metrics and checkpoints.
 */
export async function openOutputFolder(out: string, isResumed = false): Promise<void> {
  makeFolder(out);
  if (!isResumed && !existsSync(join(out, CONFIG_FILE))) return;
  for (const name of await readdir(out)) {
    const isKept = isResumed && name === METRICS_FILE;
    if (!isKept && RUN_FILES.has(name.replace(/\.[0-9a-f]{12}\.tmp$/, ""))) await rm(join(out, name));
  }
  if (!isResumed) for (const step of await listCheckpoints(out)) await removeCheckpoint(out, step);
}

/** Writes the adapter and what belongs to it. @param baseNorms tells its base, see base_record.ts. Each file appears whole or not at all; the adapter comes first, whatever happens to the others. */
export async function writeOutput(
  run: PreparedRun,
  adapter: ReadonlyMap<string, FactorValues>,
  lastLoss: number | undefined,
  baseNorms?: string,
): Promise<void> {
  const { settings } = run;
  const out = settings.output_dir;
  makeFolder(out);
  const tensors = adapterToPeft(run.layout, adapter);
  await writePeftAdapter(out, peftConfig(run), tensors, baseRecord(baseNorms));
  await writeFileAtomic(join(out, "README.md"), modelCard(run, lastLoss));
  for (const name of TOKENIZER_FILES) {
    const source = join(settings.model, name);
    if (existsSync(source)) await writeFileAtomic(join(out, name), await readFile(source));
  }
}

/** The base model as others find it: by its name on the Hub, or its folder. */
const baseModel = (settings: TrainingSettings): string => settings.model_id ?? settings.model;

/** The adapter_config.json of a run, with PEFT's names. */
export function peftConfig(run: PreparedRun): PeftConfig {
  const { settings } = run;
  const { target_modules: targets, exclude_modules: excluded } = settings;
  const roles = [
    ...new Set([...run.layout.modules.keys()].map((path) => path.split(".").at(-1) ?? path)),
  ].toSorted();
  return {
    base_model_name_or_path: baseModel(settings),
    revision: settings.model_id !== undefined && settings.revision !== "main" ? settings.revision : null,
    r: settings.rank,
    lora_alpha: settings.alpha,
    lora_dropout: settings.dropout,
    use_dora: settings.use_dora,
    use_rslora: settings.use_rslora,
    target_modules: isAllLinear(targets) ? roles : typeof targets === "string" ? targets : [...targets],
    exclude_modules: typeof excluded === "string" ? excluded : excluded && [...excluded],
    rank_pattern: { ...settings.rank_pattern },
    alpha_pattern: { ...settings.alpha_pattern },
  } as PeftConfig;
}

function modelCard(run: PreparedRun, lastLoss: number | undefined): string {
  const { settings: s, dataset, layout } = run;
  const method = `${s.quant === "nf4" ? "Q" : ""}${s.use_dora ? "DoRA" : "LoRA"}`;
  const rows: readonly (readonly [string, string | number])[] = [
    ["base weights", s.quant === "nf4" ? `NF4${s.double_quant ? ", double quantised" : ""}` : "as stored"],
    ["rank, alpha", `${s.rank}, ${s.alpha}${s.use_rslora ? ", rank-stabilised" : ""}`],
    ["trained parameters", layout.parameterCount],
    ["rows", dataset.counts.rows],
    ["optimizer steps", run.totalSteps],
    ["batch", `${s.batch_size} x ${s.gradient_accumulation_steps}`],
    ["learning rate", `${s.learning_rate}, ${s.lr_scheduler}`],
    ["seed", s.seed],
    ...(lastLoss === undefined ? [] : [["last training loss", lastLoss.toFixed(4)] as const]),
  ];
  return `---
base_model: ${JSON.stringify(baseModel(s))}
library_name: peft
tags:
- qdora
- ${s.use_dora ? "dora" : "lora"}
---

# ${basename(s.output_dir)}

A ${method} adapter for \`${basename(baseModel(s))}\`, trained with [qdora](https://www.npmjs.com/package/qdora).

| | |
|---|---|
${rows.map(([k, v]) => `| ${k} | ${v} |`).join("\n")}

\`\`\`python
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(baseModel(s))})
model = PeftModel.from_pretrained(base, "path/to/this/folder")
\`\`\`
`;
}
