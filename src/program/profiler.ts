/**
 * Times every call of the programs that run while it is attached to an executor. Each call gets a pass of its own with GPU
 * timestamps at both ends; where the adapter has none, a submit of its own that is waited for. The results are the same bits.
 */
import type { Gpu } from "../gpu/device.js";
import { readThrough } from "../gpu/upload.js";
import type { Call } from "./kernel.js";

export interface TimedCall {
  readonly program: string;
  readonly kernel: string;
  /** `upload` or `download` for calls that no shader runs. */
  readonly variant: string;
  readonly label: string;
  readonly flops: number;
  readonly bytes: number;
  /** Since the first call. Calls on the GPU and transfers have clocks of their own, joined at each submit. */
  readonly startMs: number;
  readonly ms: number;
}

/** How times were taken: by the GPU's clock, or by waiting for each call. */
export type ProfileClock = "timestamps" | "waits";

/** Calls between two read-backs. */
const MAX_CALLS = 512;
/** Two timestamps of 8 bytes a call. */
const QUERY_BYTES = 16 * MAX_CALLS;
/** GPU memory that profiling takes while it lasts: the queries' results and their read-back. */
export const PROFILER_BYTES = 2 * QUERY_BYTES;

type Recorded = Omit<TimedCall, "startMs" | "ms">;

interface Queries {
  readonly set: GPUQuerySet;
  readonly results: GPUBuffer;
  readonly staging: GPUBuffer;
}

const described = (program: string, call: Call, variant: string): Recorded => ({
  program,
  kernel: call.kernel.name,
  variant,
  label: call.label,
  ...call.kernel.cost(call),
});

export class Profiler {
  readonly clock: ProfileClock;
  readonly #gpu: Gpu;
  readonly #queries: Queries | undefined;
  readonly #calls: TimedCall[] = [];
  #pending: Recorded[] = [];
  #origin: number | undefined;
  #submitted = 0;

  /** Takes `PROFILER_BYTES` beyond what was planned, where the adapter has timestamps. */
  constructor(
    gpu: Gpu,
    clock: ProfileClock = gpu.device.features.has("timestamp-query") ? "timestamps" : "waits",
  ) {
    this.#gpu = gpu;
    this.clock = clock;
    if (clock === "waits") return;
    const { ledger, device } = gpu;
    if (ledger.budget !== undefined) ledger.budget += PROFILER_BYTES;
    this.#queries = {
      set: device.createQuerySet({ label: "profile", type: "timestamp", count: 2 * MAX_CALLS }),
      results: ledger.allocate(
        "profile",
        "staging",
        QUERY_BYTES,
        GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
      ),
      staging: ledger.allocate(
        "profile read back",
        "staging",
        QUERY_BYTES,
        GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      ),
    };
  }

  /** What was timed, in order. */
  get calls(): readonly TimedCall[] {
    return this.#calls;
  }

  /** Notes a call. @returns what its pass is begun with */
  pass(program: string, call: Call, variant: string): GPUComputePassDescriptor {
    const index = 2 * this.#pending.push(described(program, call, variant)) - 2;
    if (!this.#queries) return { label: call.label };
    return {
      label: call.label,
      timestampWrites: {
        querySet: this.#queries.set,
        beginningOfPassWriteIndex: index,
        endOfPassWriteIndex: index + 1,
      },
    };
  }

  /** Whether the passes so far have to be submitted. */
  get isFull(): boolean {
    return this.#pending.length >= (this.#queries ? MAX_CALLS : 1);
  }

  /** Right before the encoder that holds the passes is submitted. */
  resolve(encoder: GPUCommandEncoder): void {
    if (this.#queries)
      encoder.resolveQuerySet(this.#queries.set, 0, 2 * this.#pending.length, this.#queries.results, 0);
    this.#submitted = this.#since();
  }

  /** Right after the submit: waits for the passes and keeps their times. */
  async collect(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    if (!this.#queries) {
      await this.#gpu.idle();
      const ms = this.#since() - this.#submitted;
      for (const call of pending) this.#calls.push({ ...call, startMs: this.#submitted, ms });
      return;
    }
    const { results, staging } = this.#queries;
    const times = new BigInt64Array(await readThrough(this.#gpu, results, 0, 16 * pending.length, staging));
    const first = times[0] ?? 0n;
    const ms = (time: bigint | undefined): number => Number((time ?? first) - first) / 1e6;
    for (const [i, call] of pending.entries()) {
      const [start, end] = [ms(times[2 * i]), ms(times[2 * i + 1])];
      // Clocks of some drivers step back between passes; no call takes less than nothing.
      this.#calls.push({ ...call, startMs: this.#submitted + start, ms: Math.max(0, end - start) });
    }
  }

  /** Times a transfer by the clock of the host. @param move returns when the bytes have arrived */
  async transfer(program: string, call: Call, move: () => Promise<void>): Promise<void> {
    await this.#gpu.idle();
    const startMs = this.#since();
    await move();
    const ms = this.#since() - startMs;
    this.#calls.push({ ...described(program, call, call.kernel.name), startMs, ms });
  }

  /** Gives its memory back. */
  release(): void {
    if (!this.#queries) return;
    const { ledger } = this.#gpu;
    ledger.release(this.#queries.results);
    ledger.release(this.#queries.staging);
    this.#queries.set.destroy();
    if (ledger.budget !== undefined) ledger.budget -= PROFILER_BYTES;
  }

  #since(): number {
    const now = performance.now();
    this.#origin ??= now;
    return now - this.#origin;
  }
}
