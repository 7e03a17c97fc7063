/** README.md's own examples: the tests run what readers copy. */
import { readFileSync } from "node:fs";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

/** The first fenced block of a language under a heading of the second level. */
export function readmeBlock(heading: string, language: "sh" | "ts"): string {
  const [, section = ""] = readme.split(`\n## ${heading}\n`);
  const [own = ""] = section.split("\n## ");
  const block = new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "m").exec(own)?.[1];
  if (block === undefined) throw new Error(`README.md has no ${language} block under "${heading}"`);
  return block;
}
