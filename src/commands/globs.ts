/** Lists of file patterns on the command line. */

/** A comma-separated list; a flag that is given again adds to it. */
export const globs = (text: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  ...text
    .split(",")
    .map((glob) => glob.trim())
    .filter(Boolean),
];
