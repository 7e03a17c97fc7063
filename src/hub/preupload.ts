/** What the Hub says about files before they are sent: which ones it wants on its storage, and whether the card will do. */
import { QdoraError } from "../formats/error.js";
import { decodeUtf8, isObject, quoted } from "../formats/json.js";
import { badAnswer, HubMissing, postJson, type Sending } from "./send.js";
import type { UploadSource } from "./upload_source.js";

const SAMPLE_BYTES = 512;
const FILES_AT_ONCE = 250;
const MAX_CARD_BYTES = 16 * 2 ** 20;

/** The files that the Hub wants on its storage. Empty ones never: storage servers refuse them. */
export async function largePaths(
  sending: Sending,
  branch: string,
  sources: readonly UploadSource[],
): Promise<ReadonlySet<string>> {
  const { settings, repo } = sending;
  const large = new Set<string>();
  for (let at = 0; at < sources.length; at += FILES_AT_ONCE) {
    const some = sources.slice(at, at + FILES_AT_ONCE);
    const files: object[] = [];
    for (const source of some) {
      const { path, size } = source;
      const sample = Buffer.from(await source.read(0, Math.min(size, SAMPLE_BYTES))).toString("base64");
      files.push({ path, size, sample });
    }
    const url = `${settings.endpoint}/api/models/${repo.id}/preupload/${encodeURIComponent(branch)}`;
    const json = await postJson(sending, { url, body: JSON.stringify({ files }) });
    const answers = isObject(json) && Array.isArray(json["files"]) ? (json["files"] as unknown[]) : [];
    for (const { path, size } of some) {
      const answer = answers.find((entry) => isObject(entry) && entry["path"] === path);
      const mode = isObject(answer) ? answer["uploadMode"] : undefined;
      if (!isObject(answer) || (mode !== "lfs" && mode !== "regular"))
        throw badAnswer(settings, `does not say how it wants ${quoted(path)}`);
      if (answer["shouldIgnore"] === true)
        throw new QdoraError(
          repo.id,
          `its .gitignore leaves out ${quoted(path)}`,
          "mend the .gitignore in the repository",
        );
      if (mode === "lfs" && size > 0) large.add(path);
    }
  }
  return large;
}

/** Has the Hub look at the card's front matter, which it does at the commit anyway: before large files go up. */
export async function checkCard(sending: Sending, sources: readonly UploadSource[]): Promise<void> {
  const { settings } = sending;
  const card = sources.find(({ path }) => path === "README.md");
  if (!card || card.size > MAX_CARD_BYTES) return;
  const content = decodeUtf8(await card.read(0, card.size), card.path);
  const body = JSON.stringify({ content, repoType: "model" });
  try {
    await postJson(sending, { url: `${settings.endpoint}/api/validate-yaml`, body });
  } catch (error) {
    // Mirrors may lack it: then the commit says.
    if (error instanceof HubMissing) return;
    throw error;
  }
}
