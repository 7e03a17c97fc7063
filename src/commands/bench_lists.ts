/** Comma-separated lists in the flags of `qdora bench`. */
import { QdoraError } from "../formats/error.js";

const list = (text: string): readonly string[] => text.split(",").map((part) => part.trim());

/** @throws QdoraError (exit 2) for anything but whole numbers above 0 */
export function numbers(flag: string, text: string): readonly number[] {
  return list(text).map((part) => {
    const n = Number(part);
    if (Number.isInteger(n) && n > 0) return n;
    throw new QdoraError(flag, `got "${part}", expected whole numbers above 0`, undefined, { exitCode: 2 });
  });
}

/** @throws QdoraError (exit 2) for a name that is not known */
export function choices<const N extends string>(
  flag: string,
  text: string,
  known: readonly N[],
): readonly N[] {
  return list(text).map((name) => {
    const found = known.find((k) => k === name);
    if (found !== undefined) return found;
    throw new QdoraError(flag, `does not know "${name}"`, `choose from ${known.join(", ")}`, { exitCode: 2 });
  });
}
