/**
 * `checkpoint-<step>/` as a folder: it appears whole or not at all, and its manifest.json says what belongs into it. What the files mean is
 * checkpoint.ts's business.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { digestFile } from "../formats/hash.js";
import { parseStrictJson, readTextFile } from "../formats/json.js";

export const MANIFEST = "manifest.json";
const MAX_MANIFEST_BYTES = 1 << 20;
const FOLDER = /^checkpoint-(0|[1-9]\d{0,14})$/;
const LEFTOVER = /^(checkpoint-\d+|\.qdora\.lock)\.[0-9a-f]{12}\.tmp$/;

const manifestSchema = z.strictObject({
  format: z.literal("qdora checkpoint"),
  version: z.literal(1),
  step: z.int().min(0),
  files: z.record(
    z.string().regex(/^[\w.-]+$/),
    z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/), bytes: z.int().min(0) }),
  ),
});

export const checkpointName = (step: number): string => `checkpoint-${step}`;
export const checkpointPath = (out: string, step: number): string => join(out, checkpointName(step));

const namesIn = (out: string): Promise<string[]> =>
  readdir(out).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  });

/** Steps of all checkpoint folders, the newest first; whether they are whole is not looked at. */
export async function listCheckpoints(out: string): Promise<readonly number[]> {
  return (await namesIn(out))
    .flatMap((name) => FOLDER.exec(name)?.[1] ?? [])
    .map(Number)
    .toSorted((a, b) => b - a);
}

/** Removes what saving or locking left behind when it was killed. Only while the folder is locked. */
export async function removeLeftovers(out: string): Promise<void> {
  for (const name of await namesIn(out))
    if (LEFTOVER.test(name)) await rm(join(out, name), { recursive: true });
}

/** @throws QdoraError saying what is missing or damaged */
export async function verifyCheckpoint(out: string, step: number, wanted: readonly string[]): Promise<void> {
  const folder = checkpointPath(out, step);
  const path = join(folder, MANIFEST);
  const parsed = manifestSchema.safeParse(
    parseStrictJson(await readTextFile(path, MAX_MANIFEST_BYTES), path),
  );
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new QdoraError(path, `${issue?.path.join(".") || "it"}: ${issue?.message ?? "is not a manifest"}`);
  }
  const { files, step: named } = parsed.data;
  if (named !== step) throw new QdoraError(path, `names step ${named}`);
  const missing = wanted.find((name) => !Object.hasOwn(files, name));
  if (missing !== undefined) throw new QdoraError(path, `does not name ${missing}`);
  for (const [name, { sha256, bytes }] of Object.entries(files)) {
    const found = await digestFile(join(folder, name));
    if (found.bytes !== bytes)
      throw new QdoraError(join(folder, name), `has ${found.bytes} bytes, the manifest says ${bytes}`);
    if (found.sha256 !== sha256)
      throw new QdoraError(join(folder, name), "is not the file of the manifest (sha256 differs)");
  }
}

/** Makes a folder's entries last through a power cut, where the system can. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } catch (error) {
    // Network file systems may not know this; the files themselves are synced.
    if (!(error instanceof Error && "code" in error && ["EINVAL", "ENOTSUP"].includes(String(error.code))))
      throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Writes a checkpoint under a temporary name, gives it its manifest, makes sure it is on the disk, and renames it. A folder of the same step gives way.
 * @param write puts the files into the folder it is given, each of them synced
 * @returns the checkpoint's path
 * @throws QdoraError if it cannot be written; nothing of it remains then
 */
export async function writeCheckpoint(
  out: string,
  step: number,
  write: (folder: string) => Promise<void>,
): Promise<string> {
  const path = checkpointPath(out, step);
  const temporaryName = (): string => `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const temporary = temporaryName();
  try {
    await mkdir(temporary);
    await write(temporary);
    const files: Record<string, unknown> = {};
    for (const name of (await readdir(temporary)).toSorted())
      files[name] = await digestFile(join(temporary, name));
    const manifest = { format: "qdora checkpoint", version: 1, step, files };
    await writeFileAtomic(join(temporary, MANIFEST), `${JSON.stringify(manifest, null, 1)}\n`);
    await syncFolder(temporary);
    if (await stat(path).catch(() => undefined)) {
      const old = temporaryName();
      await rename(path, old);
      await rename(temporary, path);
      await rm(old, { recursive: true });
    } else {
      await rename(temporary, path);
    }
    await syncFolder(out);
    return path;
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true });
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QdoraError(
      path,
      `could not be saved (${reason.replaceAll(temporary, checkpointName(step))})`,
      undefined,
      {
        cause,
      },
    );
  }
}

/**
 * Deletes the oldest checkpoints before `step`, which was just written, until `limit` remain with it. Others, which a damaged run may have left
 * after it, are not counted: `step` is the only one known to be good.
 * @param spared an older one that stays beyond the limit
 */
export async function pruneCheckpoints(
  out: string,
  step: number,
  limit: number,
  spared?: number,
): Promise<void> {
  const older = (await listCheckpoints(out)).filter((other) => other < step);
  for (const other of older.slice(Math.max(0, limit - 1)))
    if (other !== spared) await removeCheckpoint(out, other);
}

/** Renamed first: a removal that is cut short leaves no half checkpoint under a good name. */
export async function removeCheckpoint(out: string, step: number): Promise<void> {
  const path = checkpointPath(out, step);
  const aside = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  await rename(path, aside);
  await rm(aside, { recursive: true });
}
