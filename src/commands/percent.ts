/** A line of progress for work of known size: on a terminal it rewrites itself, elsewhere it says nothing. */

/** @param verb such as "merging" */
export function percentPrinter(verb: string): (done: number, all: number) => void {
  let shown = -1;
  return (done, all) => {
    if (!process.stderr.isTTY) return;
    const percent = all === 0 ? 100 : Math.floor((100 * done) / all);
    if (percent === shown) return;
    shown = percent;
    // The last one clears the line for what is said next.
    process.stderr.write(percent === 100 ? "\r\u001b[2K" : `\r\u001b[2K${verb} ${percent} %`);
  };
}
