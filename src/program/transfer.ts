/**
 * Moves between tensors and the host as calls of a program, so that layers can pass through the GPU and checkpoints can
 * wait beside it without a second kind of program. No shader runs them: the executor does.
 */
import type { Call, Kernel } from "./kernel.js";
import { tensorBytes, type Tensor } from "./tensor.js";

/** The host's side of transfers: bytes by name. */
export interface HostStore {
  /** Bytes that an upload wants, from `offsetBytes` on; they stay as they are until the next call of `read`. */
  read(name: string, bytes: number, offsetBytes: number): Promise<Uint8Array> | Uint8Array;
  /** A piece that a download brought, to be copied before returning. */
  write(name: string, offsetBytes: number, piece: Uint8Array, totalBytes: number): void;
}

/** Two buffers take turns: one is copied on the host while the other is filled. */
export const DOWNLOAD_LABELS = ["download staging 0", "download staging 1"] as const;
export const DOWNLOAD_PIECE_BYTES = 4 << 20;

function transferKernel(transfer: "upload" | "download"): Kernel {
  return {
    name: transfer,
    bindings: { t: transfer === "upload" ? "write" : "read" },
    transfer,
    variants: [],
    twin: () => {
      throw new Error("the runner itself moves tensors");
    },
    cost: (call) => ({ flops: 0, bytes: call.sizes["bytes"] ?? 0 }),
  };
}

export const upload = transferKernel("upload");
export const download = transferKernel("download");

/**
 * Host -> tensor, in order with the calls around it.
 * @param host the name of the bytes on the host
 * @param bytes how many of the tensor's bytes, a multiple of 4 (default: all)
 * @param offset the byte on the host at which they begin
 */
export const callUpload = (
  label: string,
  t: Tensor,
  host: string,
  bytes = tensorBytes(t),
  offset = 0,
): Call => ({
  kernel: upload,
  label,
  tensors: { t },
  sizes: { bytes, offset },
  options: {},
  host,
});

/** Tensor -> host; it is there before the next upload reads it. */
export const callDownload = (label: string, t: Tensor, host: string, bytes = tensorBytes(t)): Call => ({
  kernel: download,
  label,
  tensors: { t },
  sizes: { bytes },
  options: {},
  host,
});
