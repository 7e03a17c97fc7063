/** SIGINT and SIGTERM for commands that only have to clean up: the first ends the work, the second the process. */
import { SIGNAL_EXIT } from "./run_command.js";

/**
 * @param body ends by throwing the signal's reason when it is aborted
 * @returns the exit code of a command that a signal ended, else nothing
 */
export async function untilSignal(body: (signal: AbortSignal) => Promise<void>): Promise<number | void> {
  const controller = new AbortController();
  let name: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    if (name !== undefined) process.exit(SIGNAL_EXIT[signal] ?? 1);
    name = signal;
    process.stderr.write(`\n${signal}: cleaning up (again: at once)\n`);
    controller.abort();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    await body(controller.signal);
    return;
  } catch (error) {
    // A line of progress must not stand before the message.
    if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
    if (name === undefined || error !== controller.signal.reason) throw error;
    process.stderr.write(`error: ${name}: stopped; nothing was written\n`);
    return SIGNAL_EXIT[name] ?? 1;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}
