/** Which values of the base an adapter was trained on: its `qdora_config.yaml` says so, and a quantised model folder does. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { readArchitecture } from "../model/config.js";
import type { Base } from "../model/merged.js";
import { KEYS } from "./schema.js";
import { readYaml } from "./yaml_file.js";

export interface ChosenBase {
  readonly base: Base;
  /** Why, in words. */
  readonly reason: string;
}

const CONFIG_FILE = "qdora_config.yaml";

/**
 * @param wanted what a person asked for; it wins
 * @throws QdoraError naming the file and the key if `qdora_config.yaml` is broken
 */
export async function chooseBase(
  model: string,
  adapter: string | undefined,
  wanted?: Base["kind"],
): Promise<ChosenBase> {
  const trained = adapter === undefined ? undefined : await trainedBase(adapter);
  if (wanted === "stored") return { base: { kind: "stored" }, reason: "asked for" };
  if (wanted === "nf4") {
    const doubleQuant = trained?.kind === "nf4" ? trained.doubleQuant : KEYS.double_quant.fallback;
    return { base: { kind: "nf4", doubleQuant }, reason: "asked for" };
  }
  if ((await readArchitecture(model)).quantized)
    return { base: { kind: "stored" }, reason: "the model folder holds NF4" };
  if (trained) return { base: trained, reason: "the adapter was trained on them" };
  return {
    base: { kind: "stored" },
    reason: adapter === undefined ? "there is no adapter" : `${CONFIG_FILE} is not beside the adapter`,
  };
}

async function trainedBase(adapter: string): Promise<Base | undefined> {
  const path = join(adapter, CONFIG_FILE);
  if (!existsSync(path)) return undefined;
  const yaml = await readYaml(path);
  const read = <T>(
    key: "quant" | "double_quant",
    schema: { safeParse(v: unknown): { success: boolean; data?: T } },
  ): T => {
    const parsed = schema.safeParse(yaml[key] ?? KEYS[key].fallback);
    if (!parsed.success || parsed.data === undefined)
      throw new QdoraError(
        path,
        `${key}: got ${JSON.stringify(yaml[key]).slice(0, 80)}, expected ${KEYS[key].expects}`,
        "say which base to merge into with --base nf4 or --base stored",
      );
    return parsed.data;
  };
  return read("quant", KEYS.quant.schema) === "none"
    ? { kind: "stored" }
    : { kind: "nf4", doubleQuant: read("double_quant", KEYS.double_quant.schema) };
}
