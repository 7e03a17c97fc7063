// GPU memory of runs of common models, and the longest rows that fit, by the planner alone: no GPU is needed.
// usage: npm run bench:memory [-- --write]   (some minutes)
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { contextText } from "./memory/context.mjs";
import { plansText } from "./memory/plans.mjs";
import { ownVersions } from "./shared/machine.mjs";
import { writeSection } from "./shared/section.mjs";
import { versionsText } from "./shared/table.mjs";

const { values: flags } = parseArgs({ options: { write: { type: "boolean", default: false } } });

const text = [
  `Computed, not measured: ${versionsText(ownVersions())}; \`npm run bench:memory -- --write\``,
  "",
  await plansText(),
  "",
  contextText(),
].join("\n");
console.log(text);
if (flags.write) writeSection(fileURLToPath(new URL("MEMORY.md", import.meta.url)), "memory", text);
