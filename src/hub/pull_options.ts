/** What may be said about a pull, and what it tells while it works. */
import type { RepoType } from "./names.js";
import type { Selection } from "./select.js";
import type { HubSettings } from "./settings.js";

export interface PullOptions extends Selection {
  /** Default "model". */
  readonly type?: RepoType | undefined;
  /** Branch, tag or commit; default "main". */
  readonly revision?: string | undefined;
  /** Default: the environment's. */
  readonly settings?: HubSettings | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly listen?: ((event: PullEvent) => void) | undefined;
}

export type PullEvent =
  | {
      readonly type: "listed";
      readonly repo: string;
      readonly commit: string;
      readonly files: number;
      readonly bytes: number;
      readonly bytesToFetch: number;
    }
  /** `bytes` of the bytes to fetch are there; `fetchedBytes` came over the network, repeats included. */
  | {
      readonly type: "progress";
      readonly bytes: number;
      readonly totalBytes: number;
      readonly fetchedBytes: number;
    }
  /** A model without its weights: what came for it, and what all of its files would have. */
  | {
      readonly type: "headers";
      readonly repo: string;
      readonly commit: string;
      readonly files: number;
      readonly fetchedBytes: number;
      readonly bytes: number;
    }
  | { readonly type: "file"; readonly path: string; readonly bytes: number }
  | { readonly type: "message"; readonly text: string };

/** Says a line to whoever listens. */
export const say = (options: PullOptions, text: string): void => options.listen?.({ type: "message", text });
