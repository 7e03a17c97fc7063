/** The one error type that users see: area, fact and hint, three lines at most (design: exit codes and errors). */
export class QdoraError extends Error {
  /** Where it happened: a file, a flag or a part ("config", "safetensors", "data"). */
  readonly area: string;
  /** What to do next, without the word "hint:". */
  readonly hint: string | undefined;
  /** 2 for wrong usage (a flag or key), 1 for everything else. */
  readonly exitCode: 1 | 2;

  constructor(area: string, fact: string, hint?: string, options?: { exitCode?: 1 | 2; cause?: unknown }) {
    super(`${area}: ${fact}`, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "QdoraError";
    this.area = area;
    this.hint = hint;
    this.exitCode = options?.exitCode ?? 1;
  }
}
