/** The flags of `finetune`, made from the table of keys. Defaults stand in the help only, so that a YAML file can set what no flag sets. */
import { Option, type Command } from "commander";
import { flagName, KEY_NAMES, keyOf, type Key, type KeyName } from "./schema.js";

/** The default as help shows it. */
function shownDefault(key: Key, isRequired: boolean): string {
  const { fallback } = key;
  if (key.isRequired) return isRequired ? "required" : "default: none";
  if (key.shown !== undefined) return `default: ${key.shown}`;
  const isPlain =
    typeof fallback === "string" || typeof fallback === "number" || typeof fallback === "boolean";
  return `default: ${isPlain ? fallback : "none"}`;
}

/**
 * Adds a flag for every key, or for some; booleans also as `--no-…`.
 * @param isRequired whether help calls finetune's required keys so
 */
export function addFinetuneFlags(
  command: Command,
  names: readonly KeyName[] = KEY_NAMES,
  isRequired = true,
): Command {
  for (const name of names) {
    const key = keyOf(name);
    const flag = flagName(name);
    const isSwitch = key.placeholder === "";
    const value = isSwitch ? "" : key.flag === "boolean" ? ` [${key.placeholder}]` : ` <${key.placeholder}>`;
    command.addOption(
      new Option(`${flag}${value}`, `${key.help} (${shownDefault(key, isRequired)})`).helpGroup(
        `${key.group}:`,
      ),
    );
    if (key.flag === "boolean" && !isSwitch)
      command.addOption(new Option(flag.replace("--", "--no-")).hideHelp());
  }
  return command;
}
