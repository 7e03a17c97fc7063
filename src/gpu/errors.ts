/** Errors of the device surface. */
import { QdoraError } from "../formats/error.js";

/** The device died: every object on it is gone. Training can only go on from host state or a checkpoint. */
export class DeviceLostError extends QdoraError {
  constructor(reason: string, message: string) {
    super(
      "gpu",
      `the device was lost (${reason}): ${message}`,
      "a driver reset or sleep does this; start the same command again",
    );
    this.name = "DeviceLostError";
  }
}

/** A validation or internal error that Dawn reported, with the label of what was being done. */
export class GpuError extends QdoraError {
  constructor(label: string, message: string) {
    super("gpu", `${label}: ${message.trim().split("\n").slice(0, 6).join("\n")}`);
    this.name = "GpuError";
  }
}

/** The GPU has no more memory. */
export class OutOfGpuMemoryError extends QdoraError {
  constructor(label: string, bytes: number) {
    super(
      "gpu memory",
      `no memory left for ${label} (${bytes} bytes)`,
      "close other programs, or lower max_seq_length, batch_size or rank; `finetune --dry-run` shows the plan",
    );
    this.name = "OutOfGpuMemoryError";
  }
}
