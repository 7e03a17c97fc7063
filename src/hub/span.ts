/** Parts of a file into memory, by Range requests. A server that ignores Range is left as soon as the wanted bytes are there. */
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";
import { checkHubHeaders, checkLength, fileUrl, isRange } from "./file_answer.js";
import { hubGet, type Answer } from "./http.js";
import type { RepoFile } from "./listing.js";
import type { Repo } from "./names.js";
import { startHash } from "./partial.js";
import { refusalOf } from "./refusal.js";
import type { HubSettings } from "./settings.js";
import { HubTrouble, withRetries, type Retrying } from "./trouble.js";

export interface SpanSource extends Retrying {
  readonly settings: HubSettings;
  readonly repo: Repo;
  readonly commit: string;
  /** Bytes that came over the network. */
  readonly onBytes: (count: number) => void;
}

/** What may be read and thrown away where Range is ignored: the length before a header of safetensors. */
const MAX_SKIPPED_BYTES = 8;

/**
 * Bytes `start` to `end` (not included) of a file.
 * @throws HubTrouble after the usual tries; QdoraError for an answer that cannot be trusted
 */
export function fetchSpan(
  file: RepoFile,
  start: number,
  end: number,
  source: SpanSource,
): Promise<Uint8Array> {
  if (start === end) return Promise.resolve(new Uint8Array());
  return withRetries(() => fetchOnce(file, start, end, source), source);
}

/** A whole file of at most `maxBytes`, compared with its hash. @throws QdoraError, HubTrouble */
export async function fetchSmall(file: RepoFile, maxBytes: number, source: SpanSource): Promise<Uint8Array> {
  const path = `${source.repo.id}/${file.path}`;
  if (file.size > maxBytes)
    throw new QdoraError(
      path,
      `is too large, got ${file.size} bytes (limit ${maxBytes})`,
      "is this the right model?",
    );
  const bytes = await fetchSpan(file, 0, file.size, source);
  const got = startHash(file).update(bytes).digest("hex");
  if (got === file.hash) return bytes;
  throw new QdoraError(
    path,
    `its bytes are wrong: ${file.algorithm} ${got}, expected ${file.hash}`,
    "they were changed on their way; check proxies and HF_ENDPOINT, and try again",
  );
}

async function fetchOnce(
  file: RepoFile,
  start: number,
  end: number,
  source: SpanSource,
): Promise<Uint8Array> {
  const { settings, repo, commit, signal, onBytes } = source;
  const isWhole = start === 0 && end === file.size;
  const answer = await hubGet(settings, fileUrl(settings, repo, commit, file.path), "file", signal, {
    ...(!isWhole && { range: `bytes=${start}-${end - 1}` }),
  });
  try {
    checkHubHeaders(file, commit, answer);
    const out = new Uint8Array(end - start);
    let at = firstByte(answer, file, start, source);
    for await (const part of answer.body()) {
      onBytes(part.byteLength);
      const wanted = part.subarray(Math.max(0, start - at), Math.max(0, end - at));
      out.set(wanted, Math.max(0, at - start));
      at += part.byteLength;
      if (at >= end) return out;
    }
    throw new HubTrouble(file.path, `was cut at byte ${at} of the ${end} that are needed`, "try again");
  } finally {
    answer.close();
  }
}

/** Where in the file the body of an answer begins. @throws QdoraError, HubTrouble if it leads to no wanted byte */
function firstByte(
  answer: Answer,
  file: RepoFile,
  start: number,
  { settings, repo, commit }: SpanSource,
): number {
  const { status, headers } = answer.response;
  if (status === 206) {
    if (isRange(headers, start, file.size)) return start;
    throw new HubTrouble(file.path, "other bytes came than were asked for", "try again");
  }
  if (status === 416)
    throw new QdoraError(
      file.path,
      `has no byte ${start}, but the Hub's listing gives it ${file.size} bytes`,
      "try again; is HF_ENDPOINT a Hub that you trust?",
    );
  if (status !== 200) throw refusalOf(answer, settings, { repo, revision: commit, file: file.path });
  checkLength(file, headers);
  if (start <= MAX_SKIPPED_BYTES) return 0;
  throw new QdoraError(
    `${repo.id}/${file.path}`,
    `${quoted(new URL(answer.response.url).host).slice(1, -1)} sends whole files only, and a part of this one is needed`,
    `download the model first: qdora pull ${repo.id}`,
  );
}
