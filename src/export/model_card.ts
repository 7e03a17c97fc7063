/** The README.md of a merged model: front matter that the Hub reads, and how it was made. */
import { basename, resolve } from "node:path";
import type { Base, FloatDtype, MergedModel, MergeSource } from "../model/merged.js";

/** The values that the adapter was added to, in words. */
export function baseWords(base: Base, isQuantized: boolean): string {
  if (isQuantized) return "the folder's own NF4 weights, dequantised";
  return base.kind === "stored"
    ? "the weights as stored"
    : `the weights as NF4 leaves them${base.doubleQuant ? " (double quantised)" : ""}, dequantised`;
}

/** @param source with the adapter's folder */
export function mergedCard(
  source: MergeSource & {
    readonly adapter: string;
    readonly outputDir: string;
    readonly baseName?: string | undefined;
    readonly requantize?: { readonly doubleQuant: boolean } | undefined;
  },
  { arch, adapter }: MergedModel,
  dtypes: readonly FloatDtype[],
): string {
  const settings = adapter?.layout.settings;
  const method = `${settings?.useRslora ? "rank-stabilised " : ""}${settings?.useDora ? "DoRA" : "LoRA"}`;
  const name = source.baseName ?? basename(resolve(source.model));
  const rows: readonly (readonly [string, string])[] = [
    ["base model", `\`${name}\``],
    ["adapter", `${method}, rank ${settings?.rank}, alpha ${settings?.alpha}`],
    ["merged into", baseWords(source.base, arch.quantized)],
    ["modules with an adapter", `${adapter?.layout.modules.size}`],
    ["stored as", dtypes.join(", ")],
    ...(source.requantize
      ? [["linear weights", `NF4${source.requantize.doubleQuant ? ", double quantised" : ""}`] as const]
      : []),
  ];
  return `---
base_model: ${JSON.stringify(source.baseName ?? source.model)}
library_name: transformers
pipeline_tag: text-generation
tags:
- qdora
- ${settings?.useDora ? "dora" : "lora"}
- merged
---

# ${basename(resolve(source.outputDir))}

A ${method} adapter merged into its base model with [qdora](https://www.npmjs.com/package/qdora). It needs no adapter and runs
at the speed of the base.

| | |
|---|---|
${rows.map(([k, v]) => `| ${k} | ${v} |`).join("\n")}

\`\`\`python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
\`\`\`
`;
}
