/** The output folder of a finished run: PEFT adapter, tokenizer files, model card, resolved settings. */
import { existsSync, statSync } from "node:fs";
import { copyFile, mkdir, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import type { FactorValues } from "../adapter/initial.js";
import { adapterToPeft } from "../adapter/peft.js";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { writePeftAdapter, type PeftConfig } from "../formats/peft.js";
import type { PreparedRun } from "./prepare.js";
import type { TrainingSettings } from "./settings.js";

const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "generation_config.json"];

/** Refuses an output folder that is the model folder or a file. @throws QdoraError */
export async function checkOutputFolder(settings: TrainingSettings): Promise<void> {
  const { output_dir: out, model } = settings;
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) throw new QdoraError("output_dir", `${out} is a file`, "name a folder", { exitCode: 2 });
  if (existsSync(model) && (await realpath(out)) === (await realpath(model))) {
    throw new QdoraError("output_dir", `${out} is the model folder`, "name another folder, so that the base model stays as it is", { exitCode: 2 });
  }
}

/** Writes the adapter and what belongs to it. Each file appears whole or not at all; the adapter's weights come last. */
export async function writeOutput(run: PreparedRun, adapter: ReadonlyMap<string, FactorValues>, lastLoss: number | undefined): Promise<void> {
  const { settings } = run;
  const out = settings.output_dir;
  await mkdir(out, { recursive: true });
  for (const name of TOKENIZER_FILES) {
    const source = join(settings.model, name);
    if (existsSync(source)) await copyFile(source, join(out, name));
  }
  await writeFileAtomic(join(out, "README.md"), modelCard(run, lastLoss));
  await writePeftAdapter(out, peftConfig(run), adapterToPeft(run.layout, adapter));
}

/** The adapter_config.json of a run, with PEFT's names. */
export function peftConfig(run: PreparedRun): PeftConfig {
  const { settings } = run;
  const roles = [...new Set([...run.layout.modules.keys()].map((path) => path.split(".").at(-1) ?? path))].toSorted();
  return {
    base_model_name_or_path: settings.model,
    r: settings.rank,
    lora_alpha: settings.alpha,
    lora_dropout: settings.dropout,
    use_dora: settings.use_dora,
    use_rslora: settings.use_rslora,
    target_modules: settings.target_modules === "all-linear" || Array.isArray(settings.target_modules) ? roles : (settings.target_modules as string),
    exclude_modules: typeof settings.exclude_modules === "string" ? settings.exclude_modules : settings.exclude_modules && [...settings.exclude_modules],
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
base_model: ${JSON.stringify(s.model)}
library_name: peft
tags:
- qdora
- ${s.use_dora ? "dora" : "lora"}
---

# ${basename(s.output_dir)}

A ${method} adapter for \`${basename(s.model)}\`, trained with [qdora](https://www.npmjs.com/package/qdora).

| | |
|---|---|
${rows.map(([k, v]) => `| ${k} | ${v} |`).join("\n")}

\`\`\`python
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(s.model)})
model = PeftModel.from_pretrained(base, "path/to/this/folder")
\`\`\`
`;
}

