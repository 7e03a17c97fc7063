/** Flags, YAML file and defaults become one checked configuration: flags win over YAML, YAML over defaults. */
import { stat } from "node:fs/promises";
import { stringify } from "yaml";
import { QdoraError } from "../formats/error.js";
import { checkRollback } from "../train/spike.js";
import { flagName, isKeyName, KEY_NAMES, keyOf, type FinetuneConfig, type KeyName } from "./schema.js";
import { keyElsewhere, nearest } from "./suggest.js";
import { refuseUnsupported } from "./unsupported.js";
import { fromFlagText } from "./values.js";
import { readYaml } from "./yaml_file.js";

export type { FinetuneConfig } from "./schema.js";

type Values = Map<KeyName, unknown>;

/**
 * @param flags by key: `learning_rate`, or `learningRate` as commander writes it; texts are read as on a command line
 * @param yamlPath a file with the same keys; null means default, paths are relative to the current folder
 * @param optional required keys that may be left out here; they become ""
 * @throws QdoraError (exit 2) for unknown keys, wrong types, values out of range, missing keys
 */
export async function resolveFinetuneConfig(
  flags: Readonly<Record<string, unknown>>,
  yamlPath?: string,
  optional: readonly KeyName[] = [],
): Promise<FinetuneConfig> {
  const fromFile: Values =
    yamlPath === undefined
      ? new Map()
      : checkAll(await readYaml(yamlPath), (name) => `${yamlPath}: ${name}`, false);
  const fromFlags = checkAll(flags, flagName, true);
  const values = Object.fromEntries(
    KEY_NAMES.map((name) => [name, fromFlags.get(name) ?? fromFile.get(name) ?? keyOf(name).fallback]),
  );
  for (const name of optional) values[name] ??= "";
  const missing = KEY_NAMES.filter((name) => keyOf(name).isRequired && values[name] === undefined);
  if (missing.length > 0) {
    throw new QdoraError(
      "config",
      `${missing.join(", ")} ${missing.length > 1 ? "are" : "is"} missing`,
      `give ${missing.map(flagName).join(", ")} or the keys in --config FILE`,
      { exitCode: 2 },
    );
  }
  // Every value went through its schema, and required ones are there.
  const checked = values as unknown as FinetuneConfig;
  const config: FinetuneConfig = { ...checked, alpha: checked.alpha ?? 2 * checked.rank };
  refuseUnsupported(config);
  checkRollback(config);
  if (config.output_dir !== "") await refuseFile(config.output_dir);
  return config;
}

/** Checks each key by its schema; undefined and null are left out. */
function checkAll(
  given: Readonly<Record<string, unknown>>,
  place: (name: string) => string,
  isFlags: boolean,
): Values {
  const values: Values = new Map();
  for (const [written, value] of Object.entries(given)) {
    const name = isFlags ? written.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) : written;
    if (!isKeyName(name)) throw unknownKey(place(name), name, isFlags);
    if (value !== undefined && value !== null)
      values.set(name, checkValue(name, value, place(name), isFlags));
  }
  return values;
}

function checkValue(name: KeyName, value: unknown, place: string, isFlag: boolean): unknown {
  const key = keyOf(name);
  const parsed = key.schema.safeParse(
    isFlag && typeof value === "string" ? fromFlagText(value, key.flag) : value,
  );
  if (parsed.success) return parsed.data;
  const shown = JSON.stringify(value) ?? String(value);
  throw new QdoraError(place, `got ${shown.slice(0, 80)}, expected ${key.expects}`, key.help, {
    exitCode: 2,
  });
}

function unknownKey(place: string, name: string, isFlag: boolean): QdoraError {
  const suggestion = keyElsewhere(name) ?? nearest(name, KEY_NAMES);
  const hint =
    suggestion === undefined
      ? "`qdora finetune --help` lists all keys"
      : `did you mean ${isFlag ? flagName(suggestion) : suggestion}?`;
  return new QdoraError(place, "is not a known key", hint, { exitCode: 2 });
}

async function refuseFile(outputDir: string): Promise<void> {
  const found = await stat(outputDir).catch(() => undefined);
  if (found && !found.isDirectory())
    throw new QdoraError("output_dir", `${outputDir} is a file`, "name a folder", { exitCode: 2 });
}

/** The configuration as YAML that resolves to itself: every key, null where there is no value; the model as it was named. */
export function toYaml(config: FinetuneConfig): string {
  const named = { ...config, model: config.model_id ?? config.model };
  return stringify(Object.fromEntries(KEY_NAMES.map((name) => [name, named[name] ?? null])));
}
