// Measured numbers as Markdown.

/** @param head names of the columns @param rows a list of cells each */
export const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

/** Two decimals below ten, else one. */
export const digits = (value) => value.toFixed(value < 10 ? 2 : 1);

/** `name version, name version` */
export const versionsText = (versions) =>
  Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");

/** The first lines of a section: with what it was measured, and how to do it again. @param versions of what was measured */
export const measuredWith = ({ machine, adapter, versions }, command) => [
  `- ${machine}`,
  `- ${adapter}; ${versionsText(versions)}; \`${command}\``,
];

/** Whether a ratio holds what is wanted of it, as a cell. */
export const reached = (holds) => (holds ? "yes" : "no");
