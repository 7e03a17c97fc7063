/** A line of progress for work of known size: on a terminal it rewrites itself, elsewhere it says nothing. */

/** @param verb such as "merging" */
export function percentPrinter(verb: string): (done: number, all: number) => void {
  let shown = -1;
  return (done, all) => {
    if (!process.stderr.isTTY) return;
    const percent = all === 0 ? 100 : Math.floor((100 * done) / all);
    if (percent === shown) return;
    shown = percent;
    process.stderr.write(`\r${verb} ${percent} %${percent === 100 ? "\n" : ""}`);
  };
}
