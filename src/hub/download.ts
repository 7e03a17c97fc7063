/** One file into the cache: resumed, watched, compared with its hash before it gets its name. */
import { QdoraError } from "../formats/error.js";
import { checkHubHeaders, checkLength, fileUrl, isRange } from "./file_answer.js";
import { hubGet } from "./http.js";
import type { RepoFile } from "./listing.js";
import type { Repo } from "./names.js";
import { PartialFile, partialSize } from "./partial.js";
import { refusalOf } from "./refusal.js";
import type { HubSettings } from "./settings.js";
import { HubTrouble, MAX_TRIES, sleep, waitMs, type Retrying } from "./trouble.js";

export interface Download extends Retrying {
  readonly settings: HubSettings;
  readonly repo: Repo;
  readonly commit: string;
  /** Where this file stands now, in bytes. */
  readonly onPosition: (bytes: number) => void;
  /** Bytes that came over the network. */
  readonly onBytes: (count: number) => void;
  /** Said when an earlier run's bytes are used, and when bytes were wrong and are fetched again. */
  readonly onMessage: (text: string) => void;
}

/** A try that brought this much did bring something. */
const PROGRESS_BYTES = 1 << 16;

/**
 * Fetches a file's bytes into `blob`.
 * @throws HubTrouble after MAX_TRIES tries in a row that brought nothing; what came is kept for the next run
 * @throws QdoraError if the bytes are wrong twice; they are removed
 */
export async function downloadBlob(file: RepoFile, blob: string, download: Download): Promise<void> {
  const { signal } = download;
  const there = await partialSize(blob, file.size);
  if (there > 0)
    download.onMessage(
      `${file.path}: going on at ${Math.floor((100 * there) / file.size)} %, once these bytes are hashed`,
    );
  for (let wrong = 0; ;) {
    const partial = await PartialFile.open(file, blob, signal);
    let isOpen = true;
    try {
      const wasStarted = partial.size > 0;
      const fresh = await fetchAll(file, partial, download);
      const got = partial.digest();
      if (got === file.hash) {
        isOpen = false;
        await partial.finish();
        return;
      }
      isOpen = false;
      await partial.discard();
      download.onPosition(0);
      // Bytes of an earlier run may be the wrong ones.
      if (!wasStarted || fresh) wrong++;
      if (wrong > 1)
        throw new QdoraError(
          file.path,
          `its bytes are wrong and were removed: ${file.algorithm} ${got}, expected ${file.hash}`,
          "the download was changed on its way; check proxies and HF_ENDPOINT, and try again",
        );
      download.onMessage(`${file.path}: wrong bytes (${file.algorithm}), removed; fetching it again`);
    } finally {
      if (isOpen) await partial.close();
    }
  }
}

/** Tries until all bytes are there. @returns whether all of them are of this run */
async function fetchAll(file: RepoFile, partial: PartialFile, download: Download): Promise<boolean> {
  const { signal, onPosition } = download;
  let [best, tries, fresh] = [partial.size, 0, partial.size === 0];
  onPosition(partial.size);
  while (partial.size < file.size) {
    try {
      fresh = (await fetchMore(file, partial, download)) || fresh;
    } catch (error) {
      await partial.flush();
      if (partial.size >= best + PROGRESS_BYTES) tries = 0;
      best = Math.max(best, partial.size);
      tries++;
      if (!(error instanceof HubTrouble) || signal.aborted || tries >= MAX_TRIES) throw error;
      const wait = waitMs(error, tries);
      download.onWait(error, wait);
      await sleep(wait, signal);
    }
  }
  await partial.flush();
  return fresh;
}

/** One request. The address is resolved anew each time, for signed ones expire. @returns whether it began at 0 */
async function fetchMore(file: RepoFile, partial: PartialFile, download: Download): Promise<boolean> {
  const { settings, repo, commit, signal, onPosition, onBytes } = download;
  const start = partial.size;
  const answer = await hubGet(settings, fileUrl(settings, repo, commit, file.path), "file", signal, {
    ...(start > 0 && { range: `bytes=${start}-` }),
    ...(start > 0 && partial.validator !== undefined && { "if-range": partial.validator }),
  });
  try {
    const { status, headers } = answer.response;
    checkHubHeaders(file, commit, answer);
    if (status === 416 && start > 0) {
      await partial.restart();
      throw new HubTrouble(file.path, "cannot be continued where it was cut", "try again");
    }
    if (status !== 200 && status !== 206)
      throw refusalOf(answer, settings, { repo, revision: commit, file: file.path });
    const etag = headers.get("etag");
    if (status === 206) {
      const isOther = partial.validator !== undefined && etag !== null && etag !== partial.validator;
      if (isOther || !isRange(headers, start, file.size)) {
        await partial.restart();
        throw new HubTrouble(file.path, "other bytes came than were asked for", "try again");
      }
    } else {
      checkLength(file, headers);
      // The server ignores ranges, or has other bytes now.
      if (start > 0) await partial.restart();
    }
    if (partial.size === 0) await partial.remember(etag);
    onPosition(partial.size);
    for await (const bytes of answer.body()) {
      if (partial.size + bytes.byteLength > file.size) {
        await partial.restart();
        throw new HubTrouble(
          file.path,
          `more than its ${file.size} bytes came`,
          "a proxy may stand in between",
        );
      }
      await partial.add(bytes);
      onBytes(bytes.byteLength);
      onPosition(partial.size);
    }
    if (partial.size < file.size)
      throw new HubTrouble(
        file.path,
        `was cut at byte ${partial.size} of ${file.size}`,
        "run again: it goes on from there",
      );
    return status === 200;
  } finally {
    answer.close();
  }
}
