/** Whether a text of the form ORG/NAME is a folder on this disk that was misspelt: asking the Hub for it would take long and lead nowhere. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

const letters = (text: string): string => text.toLowerCase();
const digitsOf = (text: string): string => text.replaceAll(/\D/g, "");

const sorted = (text: string): string => text.split("").toSorted().join("");

/** One letter more, less or other, or the same ones in another order. Digits must agree: models of one family differ by them. */
function isNear(a: string, b: string): boolean {
  const [x, y] = [letters(a), letters(b)];
  if (x === y) return true;
  if (digitsOf(x) !== digitsOf(y) || Math.abs(x.length - y.length) > 1) return false;
  let from = 0;
  while (from < x.length && x[from] === y[from]) from += 1;
  const [restX, restY] = [x.slice(from), y.slice(from)];
  return (
    restX.slice(1) === restY ||
    restX === restY.slice(1) ||
    restX.slice(1) === restY.slice(1) ||
    sorted(x) === sorted(y)
  );
}

function foldersOf(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() || entry.isSymbolicLink() ? entry.name : [],
    );
  } catch {
    return [];
  }
}

/** @returns the folder, relative to the current one, that `ORG/NAME` nearly is */
export function nearFolder(name: string): string | undefined {
  const [parent = "", child = ""] = name.split("/");
  for (const outer of foldersOf(".").filter((other) => isNear(parent, other)))
    for (const inner of foldersOf(outer)) if (isNear(child, inner)) return join(outer, inner);
  return undefined;
}
