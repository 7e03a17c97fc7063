/** Text to token ids and back, by the model's own tokenizer.json (`@huggingface/tokenizers`). */
import { createHash } from "node:crypto";
import { join } from "node:path";
import * as hub from "@huggingface/tokenizers";
import { QdoraError } from "../formats/error.js";
import { plainPreTokenizer } from "./pre_tokenizer.js";
import { StreamDecoder } from "./stream_decoder.js";
import {
  readTokenizerFiles,
  type SpecialTokens,
  type TokenizerFiles,
  type TokenizerTexts,
} from "./tokenizer_files.js";

export interface DecodeOptions {
  /** Leave special tokens out (default false). */
  readonly skipSpecialTokens?: boolean;
  /** Take spaces before punctuation out (default: as the tokenizer's own files say). */
  readonly cleanUp?: boolean;
}

export interface Tokenizer {
  /** @param options.addSpecialTokens put around the text what the tokenizer puts there, such as BOS (default true) */
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): number[];
  /** Ids without a token are left out. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** Decodes one token after the other; emits whole characters only. Special tokens are left out unless asked for. */
  streamDecoder(options?: { readonly skipSpecialTokens?: boolean }): StreamDecoder;
  /** The token that ends a text; undefined where the model names none. */
  readonly eosTokenId: number | undefined;
  /** Every token that ends generation, `eosTokenId` first. */
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | undefined;
  /** What `addSpecialTokens` puts before and after a text. */
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
  /** One more than the largest id; a model's own vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  readonly chatTemplate: string | undefined;
  readonly specialTokens: SpecialTokens;
  /** The folder that it came from. */
  readonly folder: string;
  /** Its files, where `folder` is not on this disk. */
  readonly texts?: TokenizerTexts | undefined;
  /** A hash of everything that its tokens and its chat template depend on. */
  readonly fingerprint: () => string;
}

/** The part of the library's class that is used (its type files name modules in a way that NodeNext does not follow). */
interface HubTokenizer {
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: number[] };
  decode(
    ids: readonly number[],
    options: { readonly skip_special_tokens: boolean; readonly clean_up_tokenization_spaces: boolean },
  ): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
}

const HubTokenizer = hub.Tokenizer as unknown as new (tokenizer: object, config: object) => HubTokenizer;

/**
 * Loads the tokenizer of a model folder.
 * @param texts its files, where they are not on this disk; `folder` is the model's name then
 * @throws QdoraError if tokenizer.json is missing, broken or of a kind that is not known
 */
export async function loadTokenizer(folder: string, texts?: TokenizerTexts): Promise<Tokenizer> {
  const files = await readTokenizerFiles(folder, texts);
  return { ...makeTokenizer(files, folder), texts };
}

function makeTokenizer(files: TokenizerFiles, folder: string): Omit<Tokenizer, "texts"> {
  const path = join(folder, "tokenizer.json");
  const { specialTokens, chatTemplate } = files;
  const pre_tokenizer = plainPreTokenizer(files.tokenizer["pre_tokenizer"], path);
  // What the library does not check fails somewhere inside it, also when it is used.
  const usable = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      const reason = (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
      throw new QdoraError(
        path,
        `cannot be used (${reason.slice(0, 160)})`,
        "download the model folder again, or use data with ready-made `input_ids`",
        { cause: error },
      );
    }
  };
  const inner = usable(() => new HubTokenizer({ ...files.tokenizer, pre_tokenizer }, files.config));
  let vocabSize = 0;
  for (const id of inner.get_vocab().values()) vocabSize = Math.max(vocabSize, id + 1);
  const cleanUp = files.config["clean_up_tokenization_spaces"] === true;

  const encode: Tokenizer["encode"] = (text, options) => {
    const { ids } = usable(() =>
      inner.encode(text, { add_special_tokens: options?.addSpecialTokens ?? true }),
    );
    if (ids.some((id) => !Number.isInteger(id))) {
      throw new QdoraError(
        path,
        `has no token for a part of ${JSON.stringify(text.slice(0, 40))}`,
        "remove such characters from the data",
      );
    }
    return ids;
  };
  const decode: Tokenizer["decode"] = (ids, options) => {
    const known = Array.from(ids).filter((id) => inner.id_to_token(id) !== undefined);
    if (known.length === 0) return "";
    return usable(() =>
      inner.decode(known, {
        skip_special_tokens: options?.skipSpecialTokens ?? false,
        clean_up_tokenization_spaces: options?.cleanUp ?? cleanUp,
      }),
    );
  };
  const idOf = (role: string): number | undefined => {
    const text = specialTokens[role];
    return typeof text === "string" ? inner.token_to_id(text) : undefined;
  };
  const around = specialTokensAround(encode);
  const eosTokenIds = [...new Set([idOf("eos_token") ?? [], ...files.eosIds].flat())];
  return {
    encode,
    decode,
    streamDecoder: (options) =>
      new StreamDecoder((ids) => decode(ids, { skipSpecialTokens: options?.skipSpecialTokens ?? true })),
    eosTokenId: eosTokenIds[0],
    eosTokenIds,
    bosTokenId: idOf("bos_token"),
    ...around,
    vocabSize,
    chatTemplate,
    specialTokens,
    folder,
    fingerprint: () => createHash("sha256").update(JSON.stringify(files)).digest("hex"),
  };
}

/** Finds out, on a sample, what the tokenizer adds around a text. */
function specialTokensAround(encode: Tokenizer["encode"]): Pick<Tokenizer, "prefixIds" | "suffixIds"> {
  const bare = encode("a", { addSpecialTokens: false });
  const whole = encode("a", { addSpecialTokens: true });
  if (bare.length === 0) return { prefixIds: whole, suffixIds: [] };
  const added = whole.length - bare.length;
  for (let before = 0; before <= added; before++) {
    if (!bare.every((id, i) => whole[before + i] === id)) continue;
    return { prefixIds: whole.slice(0, before), suffixIds: whole.slice(before + bare.length) };
  }
  return { prefixIds: [], suffixIds: [] };
}
