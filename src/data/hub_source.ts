/** A data set that is named by its hub id: the one place where such a name becomes a folder on disk. */
import { existsSync } from "node:fs";
import { extname } from "node:path";
import { QdoraError } from "../formats/error.js";
import { EXTENSIONS } from "./read_file.js";

/** Hub names are ORG/NAME of letters, digits and "-_."; nothing on disk is called so. */
export const isHubName = (path: string): boolean =>
  /^[\w][\w.-]*\/[\w][\w.-]*$/.test(path) &&
  !EXTENSIONS.includes(extname(path).toLowerCase()) &&
  !existsSync(path);

/**
 * The folder that holds a hub data set's files, in the layout of its repository.
 * @throws QdoraError: nothing is downloaded yet
 */
export async function hubDatasetFolder(name: string): Promise<string> {
  throw new QdoraError(
    "data",
    `${name} is not on this disk, and data sets are not downloaded in this version`,
    `download it, for instance with \`hf download ${name} --repo-type dataset --local-dir FOLDER\`, and give the folder`,
  );
}
