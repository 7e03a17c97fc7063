/** The frame of every command: errors in three lines at most, exit codes, no stack trace unless asked. */
import { QdoraError } from "../formats/error.js";

/** Exit code of a run that a signal ended. */
export const SIGNAL_EXIT: Readonly<Record<string, number>> = { SIGINT: 130, SIGTERM: 143 };

/** Runs a command's body; prints what went wrong and sets the exit code. */
export async function runCommand(debug: boolean, body: () => Promise<number | void>): Promise<void> {
  try {
    await checkForcedVariant();
    process.exitCode = (await body()) ?? 0;
  } catch (error) {
    process.exitCode = reportError(error, debug);
  }
}

/** @throws QdoraError (exit 2) where `QDORA_VARIANT` names what no kernel has */
async function checkForcedVariant(): Promise<void> {
  const name = process.env["QDORA_VARIANT"];
  if (!name) return;
  const { VARIANT_NAMES } = await import("../kernels/index.js");
  if (!VARIANT_NAMES.has(name))
    throw new QdoraError(
      "QDORA_VARIANT",
      `no kernel has a variant "${name}"`,
      `it may be ${[...VARIANT_NAMES].join(", ")}`,
      {
        exitCode: 2,
      },
    );
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && "syscall" in error;

/** Node's "EACCES: permission denied, open 'x'" as a fact about x. */
function systemFact(error: NodeJS.ErrnoException): string {
  const [, reason = error.message] = /^\w+: ([^,]+)/.exec(error.message) ?? [];
  return `${error.path ?? error.syscall ?? "system"}: ${reason} (${error.code})`;
}

/** Prints an error as `error: area: fact` and `hint: …`. @returns the exit code */
export function reportError(error: unknown, debug: boolean): number {
  if (debug && error instanceof Error) process.stderr.write(`${error.stack ?? error.message}\n`);
  if (error instanceof QdoraError) {
    const [first = "", ...more] = error.message.split("\n");
    process.stderr.write(
      `error: ${[first, ...more.slice(0, 1)].join("\n")}\n${error.hint ? `hint: ${error.hint}\n` : ""}`,
    );
    return error.exitCode;
  }
  if (isSystemError(error)) {
    process.stderr.write(`error: ${systemFact(error)}\n`);
    return 1;
  }
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(
    `error: internal: ${message.split("\n")[0]}\nhint: this is not expected; run again with --debug and report what it prints\n`,
  );
  return 1;
}
