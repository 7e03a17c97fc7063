/** Reads a YAML file of settings: a mapping, of bounded size, without doubled keys or alias bombs. */
import { readFile, stat } from "node:fs/promises";
import { parseDocument } from "yaml";
import { QdoraError } from "../formats/error.js";

const MAX_BYTES = 1024 * 1024;
const MAX_ALIASES = 100;

/** @throws QdoraError (exit 2) naming the file, and the line where there is one */
export async function readYaml(path: string): Promise<Readonly<Record<string, unknown>>> {
  const refuse = (fact: string, hint: string, cause?: unknown): never => {
    throw new QdoraError(path, fact, hint, { exitCode: 2, cause });
  };
  const found = await stat(path).catch(() => undefined);
  if (!found) return refuse("does not exist", "give the YAML file with --config FILE");
  if (!found.isFile()) return refuse("is not a file", "give the YAML file with --config FILE");
  if (found.size > MAX_BYTES)
    return refuse(
      `is too large, got ${found.size} bytes (limit ${MAX_BYTES})`,
      "keep settings only in this file",
    );
  const document = parseDocument(await readFile(path, "utf8"), {
    uniqueKeys: true,
    prettyErrors: true,
    logLevel: "error",
  });
  const [error] = [...document.errors, ...document.warnings];
  if (error) {
    const line = error.linePos?.[0].line;
    const [first = ""] = error.message.split("\n");
    return refuse(
      `${line === undefined ? "" : `line ${line}: `}${first.replace(/ at line \d+.*$/, "")}`,
      "mend the YAML",
      error,
    );
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (cause) {
    return refuse(
      `uses aliases in a way that is not allowed (limit ${MAX_ALIASES})`,
      "write the values out",
      cause,
    );
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value))
    return refuse("is not a mapping of keys to values", "write lines such as `rank: 16`");
  return value as Readonly<Record<string, unknown>>;
}
