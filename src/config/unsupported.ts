/** What the table of keys knows and this version cannot do yet: refused, never ignored. Take an entry out with the feature that makes it work. */
import { QdoraError } from "../formats/error.js";
import { flagName, type FinetuneConfig, type KeyName } from "./schema.js";

interface Unsupported {
  readonly key: KeyName;
  readonly isAsked: (config: FinetuneConfig) => boolean;
  /** What to write instead. */
  readonly instead: string;
}

export const UNSUPPORTED: readonly Unsupported[] = [
  { key: "dropout", isAsked: (c) => c.dropout > 0, instead: "use 0" },
];

/** @throws QdoraError for the first setting that this version cannot do */
export function refuseUnsupported(config: FinetuneConfig): void {
  const found = UNSUPPORTED.find(({ isAsked }) => isAsked(config));
  if (!found) return;
  const { key, instead } = found;
  throw new QdoraError(
    key,
    `${JSON.stringify(config[key])} is not supported in this version`,
    `${instead} (${flagName(key)} or ${key} in YAML)`,
    { exitCode: 2 },
  );
}
