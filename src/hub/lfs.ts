/** Large files to the storage behind the Hub, by Git LFS: whole or in parts, at signed addresses. */
import { QdoraError } from "../formats/error.js";
import { isObject, quoted } from "../formats/json.js";
import { put, UploadRefused } from "./put.js";
import { badAnswer, JSON_TYPE, LFS_TYPE, postJson, type Sending } from "./send.js";
import { withRetries } from "./trouble.js";
import type { UploadSource } from "./upload_source.js";

export interface LargeFile {
  readonly source: UploadSource;
  readonly sha256: string;
}

type Action = { readonly href: URL; readonly header: Readonly<Record<string, unknown>> };

/** What the Hub wants to be done for a file. */
interface Plan {
  readonly upload: Action;
  readonly verify: Action | undefined;
}

/** Signed addresses that may be asked for, one after the other. */
const MAX_PLANS = 3;
const MAX_PARTS = 10_000;
const PARTS_AT_ONCE = 4;
const MAX_ETAG = 512;

/**
 * @param onPosition bytes of this file that have gone out
 * @returns false if the storage had it already
 * @throws HubTrouble, QdoraError
 */
export async function uploadLarge(
  sending: Sending,
  branch: string,
  file: LargeFile,
  onPosition: (bytes: number) => void,
): Promise<boolean> {
  const { settings, retrying } = sending;
  for (let count = 1; ; count++) {
    const plan = await askPlan(sending, branch, file);
    if (!plan) return false;
    try {
      if (plan.upload.header["chunk_size"] === undefined) {
        const { source } = file;
        const whole = { source, from: 0, to: source.size, idleMs: settings.idleTimeoutMs, onPosition };
        await withRetries(() => put(plan.upload.href, { ...whole, signal: retrying.signal }), retrying);
      } else await uploadParts(sending, plan.upload, file, onPosition);
      if (plan.verify)
        await postJson(sending, {
          url: plan.verify.href.href,
          body: JSON.stringify({ oid: file.sha256, size: file.source.size }),
          contentType: JSON_TYPE,
        });
      return true;
    } catch (error) {
      if (!(error instanceof UploadRefused) || count >= MAX_PLANS) throw error;
      onPosition(0);
    }
  }
}

/** Parts in any order, several at once; the first failure stops the others. */
async function uploadParts(
  sending: Sending,
  { href, header }: Action,
  { source, sha256 }: LargeFile,
  onPosition: (bytes: number) => void,
): Promise<void> {
  const { settings, retrying } = sending;
  const size = Number(header["chunk_size"]);
  const count = Math.ceil(source.size / size);
  const numbers = Object.keys(header).filter((key) => /^\d+$/.test(key));
  if (!Number.isSafeInteger(size) || size < 1 || count > MAX_PARTS || numbers.length !== count)
    throw badAnswer(
      settings,
      `wants ${quoted(source.path)} in parts that do not fit its ${source.size} bytes`,
    );
  const urls = numbers
    .toSorted((a, b) => Number(a) - Number(b))
    .map((key) => addressOf(sending, header[key]));
  const stop = new AbortController();
  const stopAll = (): void => stop.abort(retrying.signal.reason);
  if (retrying.signal.aborted) stopAll();
  retrying.signal.addEventListener("abort", stopAll);
  const positions = urls.map(() => 0);
  const etags = urls.map(() => "");
  const queue = [...urls.entries()];
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [index, url] = next;
      const [from, to] = [index * size, Math.min((index + 1) * size, source.size)];
      const part = {
        source,
        from,
        to,
        signal: stop.signal,
        idleMs: settings.idleTimeoutMs,
        onPosition: (bytes: number) => {
          positions[index] = bytes;
          onPosition(positions.reduce((a, b) => a + b, 0));
        },
      };
      const etag = await withRetries(() => put(url, part), { ...retrying, signal: stop.signal });
      if (etag === "" || etag.length > MAX_ETAG)
        throw badAnswer(settings, `gives part ${index + 1} of ${quoted(source.path)} no ETag`);
      etags[index] = etag;
    }
  };
  let failure: { readonly error: unknown } | undefined;
  const workers = Array.from({ length: Math.min(PARTS_AT_ONCE, urls.length) }, () =>
    work().catch((error: unknown) => {
      failure ??= { error };
      stop.abort(error);
    }),
  );
  await Promise.all(workers);
  retrying.signal.removeEventListener("abort", stopAll);
  if (failure) throw failure.error;
  const parts = etags.map((etag, index) => ({ partNumber: index + 1, etag }));
  await postJson(sending, {
    url: href.href,
    body: JSON.stringify({ oid: sha256, parts }),
    contentType: LFS_TYPE,
    purpose: "commit",
  });
}

/** What is to be done; undefined if the storage has the bytes. */
async function askPlan(
  sending: Sending,
  branch: string,
  { source, sha256 }: LargeFile,
): Promise<Plan | undefined> {
  const { settings, repo } = sending;
  const json = await postJson(sending, {
    url: `${settings.endpoint}/${repo.id}.git/info/lfs/objects/batch`,
    body: JSON.stringify({
      operation: "upload",
      transfers: ["basic", "multipart"],
      hash_algo: "sha256",
      ref: { name: branch },
      objects: [{ oid: sha256, size: source.size }],
    }),
    contentType: LFS_TYPE,
  });
  const objects = isObject(json) && Array.isArray(json["objects"]) ? (json["objects"] as unknown[]) : [];
  const object = objects.find((o) => isObject(o) && o["oid"] === sha256);
  if (!isObject(object)) throw badAnswer(settings, `says nothing about the upload of ${quoted(source.path)}`);
  const { error, actions } = object;
  if (isObject(error))
    throw new QdoraError(
      source.path,
      `the Hub does not take it: ${quoted(String(error["message"] ?? error["code"]))}`,
      "nothing was committed",
    );
  if (!isObject(actions) || actions["upload"] === undefined) return undefined;
  const upload = actionOf(sending, actions["upload"]);
  const verify = actions["verify"] === undefined ? undefined : actionOf(sending, actions["verify"]);
  return { upload, verify };
}

function actionOf(sending: Sending, action: unknown): Action {
  if (!isObject(action)) throw badAnswer(sending.settings, "describes an upload in no known form");
  const header = isObject(action["header"]) ? action["header"] : {};
  return { href: addressOf(sending, action["href"]), header };
}

/** An address to send to. @throws QdoraError for one that nothing may be sent to */
function addressOf({ settings }: Sending, text: unknown): URL {
  const home = new URL(settings.endpoint);
  const url = typeof text === "string" && URL.canParse(text) ? new URL(text) : undefined;
  const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && home.protocol === "http:");
  if (url && isSafe && url.username === "" && url.password === "") return url;
  throw badAnswer(settings, "names an address to upload to that is no https address");
}
