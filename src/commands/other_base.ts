/** What commands say of an adapter over another base model than its own. */
import { otherBaseWarning } from "../model/base_record.js";

/** Writes the warning to stderr, where there is one. @throws QdoraError for a broken adapter or model */
export async function warnOfOtherBase(adapter: string | undefined, model: string): Promise<void> {
  const warning = await otherBaseWarning(adapter, model);
  if (warning !== undefined) process.stderr.write(`${warning}\n`);
}
