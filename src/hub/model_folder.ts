/** A model that is named on a command line: a folder on this disk, or a repository of the Hub, which is pulled. */
import { existsSync } from "node:fs";
import { QdoraError } from "../formats/error.js";
import { isRepoId } from "./names.js";
import { pull, type PullOptions } from "./pull.js";

export interface ModelFolder {
  readonly path: string;
  /** The Hub's name for it; undefined for a folder. */
  readonly id: string | undefined;
}

/**
 * The folder of a model. What exists on this disk is a folder; what else has the form ORG/NAME is pulled.
 * @throws QdoraError
 */
export async function modelFolder(name: string, options: PullOptions = {}): Promise<ModelFolder> {
  if (existsSync(name) || !isRepoId(name)) {
    if (options.revision === undefined || options.revision === "main") return { path: name, id: undefined };
    throw new QdoraError(
      "revision",
      `${JSON.stringify(options.revision)} is for models of the Hub, but ${name} is ${existsSync(name) ? "a folder" : "no name of the form ORG/NAME"}`,
      "leave out --revision",
      { exitCode: 2 },
    );
  }
  options.listen?.({ type: "message", text: `model: no folder ${name}, so ${name} of the Hub` });
  const { path } = await pull(name, { ...options, type: "model" });
  return { path, id: name };
}
