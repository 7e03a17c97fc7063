/** What the data of a run was, told from the bytes of its files and what was chosen from them: training rows, and held-out rows with files of their own. */
import { createHash } from "node:crypto";
import type { Dataset } from "./dataset.js";

export interface DataFingerprint {
  readonly train: string;
  /** null where no source has held-out rows. */
  readonly heldOut: string | null;
}

const digest = (value: unknown): string => createHash("sha256").update(JSON.stringify(value)).digest("hex");

export function fingerprintData({ sources }: Pick<Dataset, "sources">): DataFingerprint {
  const held = sources.flatMap(({ validation }) => validation?.fingerprint ?? []);
  return {
    train: digest(sources.map(({ source, train }) => [train.fingerprint, source.weight])),
    heldOut: held.length === 0 ? null : digest(held),
  };
}
