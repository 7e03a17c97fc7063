/** Which files of a repository are wanted: what a trainer reads, or what --include and --exclude say. */
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";
import { globMatcher } from "./glob.js";
import type { RepoFile } from "./listing.js";
import type { Repo, RepoType } from "./names.js";

export interface Selection {
  /** Globs that replace the default choice; `*` also crosses folders, as in huggingface_hub. */
  readonly include?: readonly string[] | undefined;
  /** Globs that are taken away. */
  readonly exclude?: readonly string[] | undefined;
}

const SMALL_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "adapter_config.json",
  "*.safetensors.index.json",
];
const WEIGHTS = "*.safetensors";
/** The same weights once more: Mistral's own layout, and copies in other types (model.fp16.safetensors). */
const COPIES = ["consolidated*.safetensors", "model.*.safetensors"];
const SHARDS = "model-*-of-*.safetensors";
const DATA_FILES = ["*.parquet", "*.jsonl", "*.json", "*.csv"];

const anyOf = (patterns: readonly string[]): ((path: string) => boolean) => {
  const matchers = patterns.map(globMatcher);
  return (path) => matchers.some((matches) => matches(path));
};

/** The default choice: for a model the top folder only, since others hold exports for other programs. */
function isWantedBy(type: RepoType, paths: ReadonlySet<string>): (path: string) => boolean {
  if (type === "dataset") return anyOf(DATA_FILES);
  const [small, weights] = [anyOf(SMALL_FILES), anyOf([WEIGHTS])];
  const copies = anyOf(paths.has("model.safetensors") ? [...COPIES, SHARDS] : COPIES);
  return (path) => !path.includes("/") && (small(path) || (weights(path) && !copies(path)));
}

/** @throws QdoraError if nothing is left, or if a model has no weights that may be opened */
export function selectFiles(
  repo: Repo,
  files: readonly RepoFile[],
  { include, exclude = [] }: Selection,
): readonly RepoFile[] {
  const wanted = include ? anyOf(include) : isWantedBy(repo.type, new Set(files.map((file) => file.path)));
  const unwanted = anyOf(exclude);
  const chosen = files.filter(({ path }) => wanted(path) && !unwanted(path));
  const isDefaultModel = !include && exclude.length === 0 && repo.type === "model";
  if (isDefaultModel && !chosen.some(({ path }) => path.endsWith(".safetensors"))) {
    const other = files.find(({ path }) => /\.(bin|pt|pth|ckpt|gguf|h5|msgpack|onnx)$/i.test(path));
    throw new QdoraError(
      repo.id,
      `has no safetensors weights${other ? ` (only the like of ${quoted(other.path)})` : ""}`,
      "use a safetensors version of the model; --include takes other files",
    );
  }
  if (chosen.length > 0) return chosen;
  throw new QdoraError(
    repo.id,
    `none of its ${files.length} files is wanted`,
    include ? "change --include or --exclude" : "name files with --include",
  );
}
