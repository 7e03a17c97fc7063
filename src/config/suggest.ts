/** "Did you mean …": the known name that is nearest to a misspelt one, or that stands for a name from elsewhere. */

/** What the keys are called in other places, such as `qdora plan --gpu`, PEFT and transformers. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ["gpu", "memory_limit"],
  ["gpumemory", "memory_limit"],
  ["maxmemory", "memory_limit"],
  ["vram", "memory_limit"],
  ["lr", "learning_rate"],
  ["r", "rank"],
  ["lorar", "rank"],
  ["loraalpha", "alpha"],
  ["loradropout", "dropout"],
  ["numtrainepochs", "epochs"],
  ["perdevicetrainbatchsize", "batch_size"],
]);

/** Edits (insert, delete, replace) from one text to the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

const plain = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");

/** The key that a name from elsewhere stands for. */
export const keyElsewhere = (name: string): string | undefined => ELSEWHERE.get(plain(name));

/** @returns the nearest name, or undefined if none is near (a third of its letters at most may differ) */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const wanted = plain(name.slice(0, 64));
  let best: { readonly name: string; readonly edits: number } | undefined;
  for (const candidate of known) {
    const edits = distance(wanted, plain(candidate));
    if (edits <= Math.ceil(plain(candidate).length / 3) && edits < (best?.edits ?? Infinity))
      best = { name: candidate, edits };
  }
  return best?.name;
}
