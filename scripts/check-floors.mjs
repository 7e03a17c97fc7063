// Checks which folder of src/ imports which: a file imports only from its own room or from floors below (ARCHITECTURE.md).
// Usage: check-floors.mjs [SRC]. Also: imports stay inside src/, name a file that exists with its .js ending, and only src/gpu touches Dawn.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, posix, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** From the ground up; rooms of one floor do not know each other, folders of one room do. */
const FLOORS = [
  [["formats"], ["quant"], ["gpu"]],
  [["program"], ["hub"]],
  [["kernels"]],
  [["adapter"]],
  [["model"]],
  [["data"]],
  [["train"], ["generate"], ["export"]],
  [["report"], ["eval"]],
  [["config"]],
  [["jobs"]],
  [["commands", "cli.ts"]],
  [["index.ts"]],
];

/** The error type is the ground that every floor stands on. */
const GROUND = new Set(["formats/error.ts"]);

const src = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "..", "src"));

function placeOf(file) {
  const head = file.split("/")[0];
  for (const [floor, rooms] of FLOORS.entries()) {
    for (const [room, names] of rooms.entries()) if (names.includes(head)) return { floor, room, head };
  }
  return undefined;
}

/** Every module name that the text imports or re-exports, statically or not, with its line. */
function importsOf(text) {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, " "));
  const found = [];
  for (const match of code.matchAll(
    /^(?!\s*\/\/).*?(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)["']([^"']+)["']/gm,
  )) {
    found.push({ name: match[1], line: code.slice(0, match.index + match[0].length).split("\n").length });
  }
  return found;
}

function complaint(file, place, name) {
  if (!name.startsWith(".")) {
    const isDawn = name === "webgpu" || name.startsWith("webgpu/");
    return isDawn && place.head !== "gpu" ? "only src/gpu may import Dawn (webgpu)" : undefined;
  }
  const target = posix.normalize(posix.join(posix.dirname(file), name)).replace(/\.js$/, ".ts");
  if (target.startsWith("..")) return `${name} is outside src/`;
  if (!name.endsWith(".js")) return `${name} must end with .js`;
  if (!existsSync(join(src, target))) return `${name} does not exist`;
  if (GROUND.has(target)) return undefined;
  const to = placeOf(target);
  if (!to) return `${name} is on no floor`;
  if (to.floor > place.floor)
    return `${place.head} (floor ${place.floor}) may not import ${to.head} (floor ${to.floor})`;
  if (to.floor === place.floor && to.room !== place.room)
    return `${place.head} and ${to.head} share floor ${to.floor}`;
  return undefined;
}

const files = readdirSync(src, { recursive: true })
  .map((file) => file.replaceAll("\\", "/"))
  .filter((file) => file.endsWith(".ts"))
  .sort();
let bad = 0;
for (const file of files) {
  const report = (line, text) => {
    console.error(`src/${file}:${line}: ${text}`);
    bad += 1;
  };
  const place = placeOf(file);
  if (!place) {
    report(1, "is on no floor (scripts/check-floors.mjs lists them)");
    continue;
  }
  for (const { name, line } of importsOf(readFileSync(join(src, file), "utf8"))) {
    const text = complaint(file, place, name);
    if (text !== undefined) report(line, text);
  }
}
console.log(`floors: ${files.length} files, ${bad} wrong`);
process.exitCode = bad === 0 ? 0 : 1;
