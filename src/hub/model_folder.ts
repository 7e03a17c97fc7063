/** A model that is named on a command line: a folder on this disk, or a repository of the Hub, which is pulled. */
import { existsSync } from "node:fs";
import { QdoraError } from "../formats/error.js";
import type { RemoteModel } from "../formats/remote_model.js";
import { modelHeaders } from "./model_headers.js";
import { nearFolder } from "./near_folder.js";
import { isRepoId } from "./names.js";
import { pull } from "./pull.js";
import type { PullOptions } from "./pull_options.js";

export interface ModelFolder {
  readonly path: string;
  /** The Hub's name for it; undefined for a folder. */
  readonly id: string | undefined;
}

export interface ModelHeaders {
  readonly remote: RemoteModel;
  readonly id: string;
}

/**
 * The folder of a model. What exists on this disk is a folder; what else has the form ORG/NAME is pulled.
 * @throws QdoraError
 */
export async function modelFolder(name: string, options: PullOptions = {}): Promise<ModelFolder> {
  if (!isOfHub(name, options)) return { path: name, id: undefined };
  const { path } = await pull(name, { ...options, type: "model" });
  return { path, id: name };
}

/** The same without weights: where the cache lacks a file, only what tells the model's shapes is fetched. */
export async function modelFolderOrHeaders(
  name: string,
  options: PullOptions = {},
): Promise<ModelFolder | ModelHeaders> {
  if (!isOfHub(name, options)) return { path: name, id: undefined };
  const found = await modelHeaders(name, options);
  return { ...found, id: name };
}

/** @throws QdoraError (exit 2) for a revision of something that is not of the Hub, and for a misspelt folder */
function isOfHub(name: string, options: PullOptions): boolean {
  if (existsSync(name) || !isRepoId(name)) {
    if (options.revision === undefined || options.revision === "main") return false;
    throw new QdoraError(
      "revision",
      `${JSON.stringify(options.revision)} is for models of the Hub, but ${name} is ${existsSync(name) ? "a folder" : "no name of the form ORG/NAME"}`,
      "leave out --revision",
      { exitCode: 2 },
    );
  }
  const near = nearFolder(name);
  if (near !== undefined)
    throw new QdoraError(
      "model",
      `there is no folder ${name}`,
      `did you mean ${near}? If it is a model of the Hub: \`qdora pull ${name}\` gives its folder`,
      { exitCode: 2 },
    );
  options.listen?.({ type: "message", text: `model: no folder ${name}, so ${name} of the Hub` });
  return true;
}
