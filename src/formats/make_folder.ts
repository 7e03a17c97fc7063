/** Makes folders step by step. Node's own recursive mkdir never ends where the system says that a folder which is there is not (`/proc`). */
import { lstatSync, mkdirSync, rmdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { QdoraError } from "./error.js";
import { cannot } from "./files.js";

const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
};

/**
 * Makes a folder and those above it that are missing; all of them or none.
 * @returns the topmost one that was made; undefined if it was there
 * @throws QdoraError naming the folder that cannot be made
 */
export function makeFolder(folder: string): string | undefined {
  const missing: string[] = [];
  for (let at = resolve(folder); !isFolder(at) && at !== dirname(at); at = dirname(at)) missing.push(at);
  const first = missing.at(-1);
  for (const path of missing.toReversed()) {
    try {
      mkdirSync(path);
    } catch (cause) {
      // Another process may have made it meanwhile.
      if (isFolder(path)) continue;
      if (first !== undefined && first !== path) removeEmpty(dirname(path), first);
      throw cannotMake(path, cause);
    }
  }
  return first;
}

/** An error of the system as why a folder cannot be made. */
export function cannotMake(path: string, cause: unknown): QdoraError {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EEXIST") {
    const isLink = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
    return new QdoraError(path, isLink ? "is a link that leads nowhere" : "is a file", "name a folder", {
      cause,
    });
  }
  if (code === "ENOENT" || code === "ENOTDIR")
    return new QdoraError(path, "cannot be made there", "name a folder on another disk", { cause });
  return cannot("written", path, cause);
}

/** Takes back folders that were made and stayed empty. @param made what `makeFolder` returned */
export function removeEmpty(folder: string, made: string): void {
  try {
    for (let at = resolve(folder); isFolder(at); at = dirname(at)) {
      rmdirSync(at);
      if (at === made) return;
    }
  } catch {
    // Not empty: it is used.
  }
}
