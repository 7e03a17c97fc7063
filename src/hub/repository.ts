/** The repository and branch that are pushed to: made where they are missing, and the commit they stand at. */
import { QdoraError } from "../formats/error.js";
import { isObject, quoted } from "../formats/json.js";
import { hubGet, readJsonAnswer } from "./http.js";
import { checkRevision, isCommit } from "./names.js";
import { refusalOf } from "./refusal.js";
import { badAnswer, HubConflict, postJson, type Sending } from "./send.js";
import { HubTrouble, withRetries } from "./trouble.js";

const MAX_INFO_BYTES = 32 * 2 ** 20;

export interface Head {
  readonly commit: string;
  readonly isPrivate: boolean;
}

/** @throws QdoraError (exit 2) for what cannot be a branch to commit to */
export function checkBranch(name: string): string {
  checkRevision(name);
  if (!isCommit(name)) return name;
  throw new QdoraError("revision", `${quoted(name)} is a commit`, "name a branch to commit to", {
    exitCode: 2,
  });
}

/** Where a branch stands; undefined if there is no such repository or branch. @throws HubTrouble, QdoraError */
export async function headOf(
  { settings, repo, retrying }: Sending,
  branch: string,
): Promise<Head | undefined> {
  const api = `${settings.endpoint}/api/models/${repo.id}`;
  const url = branch === "main" ? api : `${api}/revision/${encodeURIComponent(branch)}`;
  return withRetries(async () => {
    const answer = await hubGet(settings, url, "question", retrying.signal);
    try {
      const { status, headers } = answer.response;
      const code = headers.get("x-error-code");
      if (status === 404 && code !== "EntryNotFound") return undefined;
      if (status === 401 && code === "RepoNotFound") return undefined;
      if (status !== 200) throw refusalOf(answer, settings, { repo, revision: branch });
      const json = await readJsonAnswer(answer, settings, MAX_INFO_BYTES);
      const sha = isObject(json) ? json["sha"] : undefined;
      if (!isObject(json) || typeof sha !== "string" || !isCommit(sha))
        throw badAnswer(settings, `names the commit ${quoted(String(sha))}, which is no hash`);
      return { commit: sha, isPrivate: json["private"] === true };
    } finally {
      answer.close();
    }
  }, retrying);
}

/**
 * @param wantsPrivate a new repository becomes private; one that is there must be
 * @param say told what was made
 * @returns the commit that the branch stands at
 * @throws QdoraError, HubTrouble
 */
export async function openBranch(
  sending: Sending,
  branch: string,
  wantsPrivate: boolean,
  say: (text: string) => void,
): Promise<string> {
  const { repo, settings } = sending;
  const api = `${settings.endpoint}/api`;
  let main = await headOf(sending, "main");
  if (main && wantsPrivate && !main.isPrivate)
    throw new QdoraError(
      repo.id,
      "exists and is public, but --private was asked for",
      "make it private in its settings on the Hub, or leave out --private",
    );
  if (!main) {
    const [organization, name] = repo.id.split("/");
    const body = { type: "model", name, organization, ...(wantsPrivate && { visibility: "private" }) };
    const isNew = await make(sending, `${api}/repos/create`, body);
    main = await newHead(sending, "main");
    if (wantsPrivate && !main.isPrivate)
      throw new QdoraError(repo.id, "was made, but is not private", "look at its settings on the Hub");
    if (isNew) say(`${repo.id}: made${main.isPrivate ? ", private" : ""}`);
  }
  if (branch === "main") return main.commit;
  const there = await headOf(sending, branch);
  if (there) return there.commit;
  if (branch.startsWith("refs/"))
    throw new QdoraError(repo.id, `has no ${quoted(branch)}`, "name a branch with --revision");
  if (await make(sending, `${api}/models/${repo.id}/branch/${encodeURIComponent(branch)}`, {}))
    say(`${repo.id}: made the branch ${branch}`);
  return (await newHead(sending, branch)).commit;
}

/** @returns false if it was there already */
async function make(sending: Sending, url: string, body: object): Promise<boolean> {
  try {
    await postJson(sending, { url, body: JSON.stringify(body) });
    return true;
  } catch (error) {
    if (error instanceof HubConflict) return false;
    throw error;
  }
}

/** What was just made may take a moment until it is seen. */
const newHead = (sending: Sending, branch: string): Promise<Head> =>
  withRetries(async () => {
    const head = await headOf(sending, branch);
    if (head) return head;
    throw new HubTrouble(
      sending.repo.id,
      `cannot be found right after it was made (${branch})`,
      "run again in a minute; the token may lack read access",
    );
  }, sending.retrying);
