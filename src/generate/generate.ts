/** Text in, text out: tokens, chat template, the loop over tokens, stop at an end-of-sequence token. */
import { renderChat } from "../data/template.js";
import { loadTokenizer } from "../data/tokenizer.js";
import { openCheckpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { readArchitecture } from "../model/config.js";
import { RandomSource } from "../program/random.js";
import { Generator } from "./generator.js";
import { sampleToken, type Sampling } from "./sample.js";

export interface GenerateOptions extends Sampling {
  /** Model folder. */
  readonly model: string;
  /** PEFT adapter folder. */
  readonly adapter?: string | undefined;
  readonly prompt: string;
  /** Wrap the prompt in the model's chat template. */
  readonly chat: boolean;
  readonly system?: string | undefined;
  readonly maxNewTokens: number;
  readonly seed: number;
  readonly quant: "nf4" | "none";
  readonly doubleQuant: boolean;
  readonly device?: string | undefined;
}

export interface Generated {
  readonly text: string;
  readonly ids: readonly number[];
  readonly promptIds: readonly number[];
  /** New tokens per second, after the prompt. */
  readonly tokensPerSecond: number;
}

const SAMPLING_STREAM = 2;

/**
 * Continues a prompt.
 * @param onText called with each new piece of text (whole characters)
 */
export async function generate(
  options: GenerateOptions,
  onText: (text: string) => void = () => undefined,
): Promise<Generated> {
  // Says what is wrong with a folder that is no model folder.
  await (await openCheckpoint(options.model)).close();
  const arch = await readArchitecture(options.model);
  const tokenizer = await loadTokenizer(options.model);
  let text = options.prompt;
  if (options.chat) {
    if (tokenizer.chatTemplate === undefined)
      throw new QdoraError(options.model, "the tokenizer has no chat template", "leave out --chat", {
        exitCode: 2,
      });
    const system = options.system === undefined ? [] : [{ role: "system", content: options.system }];
    text = await renderChat(tokenizer, [...system, { role: "user", content: options.prompt }], {
      addGenerationPrompt: true,
    });
  }
  const promptIds = [...tokenizer.encode(text, { addSpecialTokens: !options.chat })];
  if (promptIds.length === 0)
    throw new QdoraError("prompt", "has no tokens", "give a longer prompt", { exitCode: 2 });
  const context = promptIds.length + options.maxNewTokens;
  if (context > arch.maxPositions) {
    throw new QdoraError(
      "prompt",
      `${promptIds.length} prompt tokens and ${options.maxNewTokens} new ones exceed the model's ${arch.maxPositions} positions`,
      "lower --max-new-tokens or shorten the prompt",
      { exitCode: 2 },
    );
  }
  const generator = await Generator.open({ ...options, context });
  try {
    const random = new RandomSource(options.seed, SAMPLING_STREAM);
    const decoder = tokenizer.streamDecoder();
    const ids: number[] = [];
    let answer = "";
    const emit = (piece: string): void => {
      answer += piece;
      if (piece !== "") onText(piece);
    };
    let logits = await generator.feed(promptIds);
    const began = performance.now();
    while (ids.length < options.maxNewTokens) {
      const id = sampleToken(logits, options, random);
      ids.push(id);
      if (tokenizer.eosTokenIds.includes(id)) break;
      emit(decoder.push(id));
      if (ids.length < options.maxNewTokens) logits = await generator.feed([id]);
    }
    emit(decoder.end());
    return {
      text: answer,
      ids,
      promptIds,
      tokensPerSecond: (ids.length - 1) / Math.max(1e-3, (performance.now() - began) / 1000),
    };
  } finally {
    await generator.close();
  }
}
