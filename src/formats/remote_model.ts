/** A model whose files are not on this disk: its small texts, and its tensors as far as headers tell. */
import type { Checkpoint } from "./checkpoint.js";

export interface RemoteModel {
  /** What errors call it: `ORG/NAME`. */
  readonly name: string;
  /** A small file's text by its name; undefined if there is none. @throws QdoraError */
  readText(file: string): Promise<string | undefined>;
  /**
   * All headers, checked as those of a folder are. Of the data, only the texts that bitsandbytes keeps among its tensors
   * (`quant_state`) can be read.
   * @throws QdoraError
   */
  openCheckpoint(): Promise<Checkpoint>;
}
