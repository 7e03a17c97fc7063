/** A data set that is named by its hub id: the one place where such a name becomes a folder on disk. */
import { existsSync } from "node:fs";
import { extname } from "node:path";
import { pullDataset } from "../hub/pull.js";
import { EXTENSIONS } from "./read_file.js";

/** Hub names are ORG/NAME of letters, digits and "-_."; nothing on disk is called so. */
export const isHubName = (path: string): boolean =>
  /^[\w][\w.-]*\/[\w][\w.-]*$/.test(path) &&
  !EXTENSIONS.includes(extname(path).toLowerCase()) &&
  !existsSync(path);

/**
 * The folder that holds a hub data set's files, in the layout of its repository; pulled into the cache if it is not there.
 * @throws QdoraError for a name that the hub refuses, or a network that does not answer
 */
export const hubDatasetFolder = async (name: string): Promise<string> => (await pullDataset(name)).path;
