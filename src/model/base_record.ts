/**
 * Whether an adapter lies on the base model that it was trained on, told from the norms' weights. They are some hundred kB, and a folder that is
 * quantised holds the bytes of one that is not. A base that was itself merged from an adapter has the norms of its own base: it cannot be told from it.
 */
import { openCheckpoint } from "../formats/checkpoint.js";
import { adapterMetadata, readPeftConfig } from "../formats/peft.js";
import { readArchitecture } from "./config.js";
import { findEntry, normWidths } from "./entries.js";
import { ModelFingerprint } from "./fingerprint.js";

/** The key in the metadata of an adapter's weights: types and sha256 of the norms' weights of its base. */
export const BASE_NORMS = "qdora_base_norms";

/** What an adapter records of its base. @param norms as `ModelFingerprint.norms` says */
export const baseRecord = (norms: string | undefined): Readonly<Record<string, string>> =>
  norms === undefined ? {} : { [BASE_NORMS]: norms };

const typesOf = (norms: string): string => norms.split(" ")[0] ?? "";

async function normsOf(model: string): Promise<string | undefined> {
  const arch = await readArchitecture(model);
  const opened = await openCheckpoint(model);
  try {
    const fingerprint = new ModelFingerprint();
    const checkpoint = fingerprint.watch(opened);
    for (const [name, width] of normWidths(arch)) await checkpoint.read(findEntry(checkpoint, name, [width]));
    return fingerprint.norms();
  } finally {
    await opened.close();
  }
}

/**
 * @returns a warning if the adapter's record is of another base; undefined if it is of this one, if the norms were converted to another type, and
 * for adapters without a record, such as other tools make, or where there is no adapter
 * @throws QdoraError naming the file for an adapter or a model that is broken
 */
export async function otherBaseWarning(
  adapter: string | undefined,
  model: string,
): Promise<string | undefined> {
  if (adapter === undefined) return undefined;
  const { base_model_name_or_path: name } = await readPeftConfig(adapter);
  const recorded = (await adapterMetadata(adapter))[BASE_NORMS];
  if (recorded === undefined) return undefined;
  const norms = await normsOf(model);
  if (norms === undefined || norms === recorded || typesOf(norms) !== typesOf(recorded)) return undefined;
  return `warning: ${adapter} was trained on another base model${name ? ` (${name})` : ""} than ${model}, whose weights are others: what comes out will be wrong`;
}
