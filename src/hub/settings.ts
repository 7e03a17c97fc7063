/** What the environment says about the Hub: the variables of Python's huggingface_hub, with its names and defaults. */
import { homedir } from "node:os";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { readTextFile } from "../formats/json.js";

export interface Token {
  readonly value: string;
  /** Where it was found; the value itself is never shown. */
  readonly source: string;
}

export interface HubSettings {
  /** Without a slash at the end. The token goes to this URL's origin only. */
  readonly endpoint: string;
  readonly token: Token | undefined;
  /** The folder that holds `models--ORG--NAME`. */
  readonly cacheDir: string;
  readonly offline: boolean;
  /** Longest wait for the answer to a question about files. */
  readonly metadataTimeoutMs: number;
  /** Longest wait for the next bytes of a file. */
  readonly idleTimeoutMs: number;
  readonly symlinks: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_TIMEOUT_SECONDS = 10;
const MAX_TOKEN_FILE_BYTES = 1 << 16;

const isTrue = (value: string | undefined): boolean =>
  ["1", "ON", "YES", "TRUE"].includes(value?.toUpperCase() ?? "");

/** @throws QdoraError for variables that mean nothing, and for a token that no header can carry */
export async function hubSettings(env: Environment = process.env): Promise<HubSettings> {
  const set = (name: string): string | undefined => env[name] || undefined;
  const home = expandPath(
    set("HF_HOME") ?? join(set("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface"),
    env,
  );
  const cacheDir = set("HF_HUB_CACHE") ?? set("HUGGINGFACE_HUB_CACHE") ?? join(home, "hub");
  return {
    endpoint: endpointOf(set("HF_ENDPOINT") ?? "https://huggingface.co"),
    token: isTrue(env["HF_HUB_DISABLE_IMPLICIT_TOKEN"]) ? undefined : await findToken(env, home),
    cacheDir: expandPath(cacheDir, env),
    offline: isTrue(set("HF_HUB_OFFLINE") ?? env["TRANSFORMERS_OFFLINE"]),
    metadataTimeoutMs: milliseconds(env, "HF_HUB_ETAG_TIMEOUT"),
    idleTimeoutMs: milliseconds(env, "HF_HUB_DOWNLOAD_TIMEOUT"),
    symlinks: !isTrue(env["HF_HUB_DISABLE_SYMLINKS"]),
  };
}

/** `~` and `$NAME`, as a shell would have it. */
function expandPath(path: string, env: Environment): string {
  const whole = path.replace(/^~(?=$|[\\/])/, homedir());
  return whole.replaceAll(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (text, braced?: string, plain?: string) => env[braced ?? plain ?? ""] ?? text,
  );
}

function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url && ["http:", "https:"].includes(url.protocol) && url.search === "" && url.hash === "";
  if (isPlain && url.username === "" && url.password === "") return url.href.replace(/\/+$/, "");
  // It may hold a password: it is not shown.
  throw new QdoraError(
    "HF_ENDPOINT",
    "is not an http or https address without user, query and fragment",
    "write it like https://huggingface.co, or leave it out",
    { exitCode: 2 },
  );
}

function milliseconds(env: Environment, name: string): number {
  const text = env[name]?.trim() || undefined;
  const seconds = text === undefined ? DEFAULT_TIMEOUT_SECONDS : Number(text);
  if (seconds > 0 && seconds <= 86_400) return seconds * 1000;
  throw new QdoraError(
    name,
    `got ${JSON.stringify(text?.slice(0, 40))}, expected seconds from above 0 to 86400`,
    "leave it out for the default of 10 seconds",
    { exitCode: 2 },
  );
}

async function findToken(env: Environment, home: string): Promise<Token | undefined> {
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
    const token = cleanToken(env[name] ?? "", name);
    if (token) return token;
  }
  const path = expandPath(env["HF_TOKEN_PATH"] || join(home, "token"), env);
  try {
    return cleanToken(await readTextFile(path, MAX_TOKEN_FILE_BYTES), path);
  } catch (error) {
    // A file that is not there is no token; one that cannot be read is said.
    if (error instanceof QdoraError && codeOf(error.cause) === "ENOENT") return undefined;
    throw error;
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "";

/** Headers refuse other characters with an error that shows the value: they are refused here, without it. */
function cleanToken(text: string, source: string): Token | undefined {
  const value = text.replaceAll(/[\r\n]/g, "").trim();
  if (value === "") return undefined;
  if (/^[\x21-\x7e]{1,4096}$/.test(value)) return { value, source };
  throw new QdoraError(
    source,
    "does not hold a token: it has spaces or characters that no token has",
    "copy the token again from the Hub's settings page, alone on one line",
  );
}
