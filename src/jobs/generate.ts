/** `qdora generate` as a call: a model of the Hub is pulled, and what is left out has the command's default. */
import {
  generate as continuePrompt,
  type Generated,
  type GenerateOptions as AllOptions,
} from "../generate/generate.js";
import { modelFolder } from "../hub/model_folder.js";
import type { PullEvent } from "../hub/pull_options.js";
import { asStopped } from "./stopped.js";

/** `model` is a folder, or ORG/NAME of the Hub. */
export type GenerateOptions = Pick<AllOptions, "model" | "prompt"> & {
  readonly [K in keyof AllOptions]?: AllOptions[K] | undefined;
} & {
  /** Branch, tag or commit of a model of the Hub. */
  readonly revision?: string | undefined;
};

export interface GenerateListening {
  /** Called with each new piece of text (whole characters). */
  readonly onText?: ((text: string) => void) | undefined;
  /** Told about downloads of a model of the Hub. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined;
  /** Stops the download. */
  readonly signal?: AbortSignal | undefined;
}

/** The command's defaults. */
export const GENERATE_DEFAULTS = {
  chat: false,
  maxNewTokens: 128,
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  quant: "nf4",
  doubleQuant: true,
} as const;

/** Continues a prompt, greedily unless `temperature` says otherwise. @throws QdoraError */
export async function generate(
  { revision, ...options }: GenerateOptions,
  { onText, onEvent, signal }: GenerateListening = {},
): Promise<Generated> {
  const model = await asStopped(signal, () =>
    modelFolder(options.model, { revision, signal, ...(onEvent && { listen: onEvent }) }),
  );
  const d = GENERATE_DEFAULTS;
  const all = {
    ...options,
    model: model.path,
    chat: options.chat ?? d.chat,
    maxNewTokens: options.maxNewTokens ?? d.maxNewTokens,
    temperature: options.temperature ?? d.temperature,
    topK: options.topK ?? d.topK,
    topP: options.topP ?? d.topP,
    seed: options.seed ?? d.seed,
    quant: options.quant ?? d.quant,
    doubleQuant: options.doubleQuant ?? d.doubleQuant,
  };
  return continuePrompt(all, onText);
}
