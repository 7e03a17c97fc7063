// A section of a Markdown file that a script owns: between two comments, the rest of the file stays.
import { existsSync, readFileSync, writeFileSync } from "node:fs";

/** The name of a section for each width of a software adapter's vectors. @param bits as `vectorBits` has them */
export const sectionOf = (name, bits) => (bits === undefined ? name : `${name}, vectors of ${bits} bits`);

export function writeSection(path, name, text) {
  const [start, end] = [`<!-- ${name}: written by a script -->`, `<!-- end of ${name} -->`];
  const section = `${start}\n${text.trimEnd()}\n${end}`;
  const file = existsSync(path) ? readFileSync(path, "utf8") : "# Results\n";
  const from = file.indexOf(start);
  const to = file.indexOf(end);
  const whole =
    from >= 0 && to > from
      ? file.slice(0, from) + section + file.slice(to + end.length)
      : `${file.trimEnd()}\n\n${section}\n`;
  writeFileSync(path, whole);
}
