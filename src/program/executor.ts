/**
 * The executor: allocates a memory plan, compiles the chosen variants and makes every bind group once, then replays
 * programs. Nothing is created while it runs; a new token count only rewrites uniforms and grids.
 */
import { OutOfGpuMemoryError } from "../gpu/errors.js";
import type { Gpu } from "../gpu/device.js";
import { Pipelines } from "../gpu/pipelines.js";
import { Downloader } from "../gpu/download.js";
import { readThrough, Uploader } from "../gpu/upload.js";
import { restfully } from "../gpu/wait.js";
import { size, type Call, type Program, type Variant } from "./kernel.js";
import { placeOf, READBACK_LABEL, UNIFORM_LABEL, UNIFORM_STRIDE, type MemoryPlan } from "./planner.js";
import type { Profiler } from "./profiler.js";
import { recordingOf, Step, type Bound, type Recording } from "./recording.js";
import { Stopwatch } from "./stopwatch.js";
import { tensorBytes, type Tensor } from "./tensor.js";
import { DOWNLOAD_LABELS, type HostStore } from "./transfer.js";
import { uniformBytes } from "./uniforms.js";

/** Which variant runs a call: the tuner's table, a forced name, or the first that accepts. */
export type ChooseVariant = (call: Call, accepted: readonly Variant[]) => Variant;

export interface RunOptions {
  /** A, B or m changed since the last run. */
  readonly afterUpdate?: boolean;
  /** Ends the run between two submits with its reason; what was written so far stays. */
  readonly signal?: AbortSignal | undefined;
}

interface Loaded {
  readonly capacity: Program;
  /** One for each call; none for transfers. */
  readonly bound: readonly (Bound | undefined)[];
  /** Each call's place in the uniform buffer. */
  readonly uniforms: readonly number[];
  /** Of the program objects that have run: one for each token count. */
  readonly recordings: WeakMap<Program, Recording>;
  /** Whose sizes are in the uniform buffer now. */
  current?: Recording;
}

/** A submit stays near this many milliseconds, so that no driver's watchdog fires. */
const SUBMIT_MS = 100;
/** Dispatches recorded before the first measure. */
const FIRST_BATCH_FLOPS = 2e9;

/** The variants of a call's kernel that give right numbers here. @throws Error when there is none. */
export function acceptedVariants(call: Call, gpu: Gpu): readonly Variant[] {
  const accepted = call.kernel.variants.filter((v) => v.accepts(call, gpu.traits));
  if (accepted.length === 0)
    throw new Error(`no variant of ${call.kernel.name} fits ${call.label} on ${gpu.traits.name}`);
  return accepted;
}

/** Those of them among which a measurement decides. */
export const timedVariants = (call: Call, gpu: Gpu): readonly Variant[] =>
  acceptedVariants(call, gpu).filter((v) => v.isTimed?.(gpu.traits) ?? true);

export class Executor {
  readonly gpu: Gpu;
  readonly plan: MemoryPlan;
  readonly #buffers: GPUBuffer[];
  readonly #pipelines: Pipelines;
  readonly #programs = new Map<string, Loaded>();
  readonly #uploader: Uploader;
  readonly #downloader: Downloader;
  /** Host names of downloads that may still be under way. */
  readonly #arriving = new Set<string>();
  /** Where transfers find and leave bytes; programs with transfers need one. */
  host: HostStore | undefined;
  /** Times every call while it is set: slower, the same bits. */
  profiler: Profiler | undefined;
  #flopsPerMs = FIRST_BATCH_FLOPS / SUBMIT_MS;
  readonly #stopwatch: Stopwatch;

  private constructor(gpu: Gpu, plan: MemoryPlan, buffers: GPUBuffer[], pipelines: Pipelines) {
    this.gpu = gpu;
    this.plan = plan;
    this.#buffers = buffers;
    this.#pipelines = pipelines;
    this.#stopwatch = new Stopwatch(gpu);
    this.#uploader = new Uploader(gpu);
    const staging = plan.buffers.flatMap((b, i) => (isDownload(b.label) ? [buffers[i] as GPUBuffer] : []));
    this.#downloader = new Downloader(gpu, staging, staging[0]?.size ?? 0);
  }

  /** Allocates the plan. @throws OutOfGpuMemoryError naming the buffer; what was allocated is released. */
  static async allocate(gpu: Gpu, plan: MemoryPlan, pipelines = new Pipelines(gpu)): Promise<Executor> {
    const buffers: GPUBuffer[] = [];
    for (const b of plan.buffers) {
      const usage =
        b.label === READBACK_LABEL || isDownload(b.label)
          ? GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
          : b.label === UNIFORM_LABEL
            ? GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST
            : GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
      gpu.device.pushErrorScope("out-of-memory");
      const buffer = gpu.ledger.allocate(b.label, b.kind, b.bytes, usage);
      buffers.push(buffer);
      if (await restfully(gpu.device.popErrorScope(), 0.05)) {
        for (const made of buffers) gpu.ledger.release(made);
        throw new OutOfGpuMemoryError(b.label, b.bytes);
      }
    }
    return new Executor(gpu, plan, buffers, pipelines);
  }

  /** Compiles the pipelines and makes the bind groups of the programs that were planned. */
  async load(programs: readonly Program[], choose: ChooseVariant): Promise<void> {
    for (const capacity of programs) {
      const uniforms = this.plan.uniforms.get(capacity.name);
      if (!uniforms) throw new Error(`program ${capacity.name} was not planned`);
      const bound = await Promise.all(
        capacity.calls.map(async (call, i) =>
          call.kernel.transfer
            ? undefined
            : await this.#bindChosen(capacity.name, call, choose, uniforms[i] ?? 0),
        ),
      );
      this.#programs.set(capacity.name, { capacity, bound, uniforms, recordings: new WeakMap() });
    }
    this.#pipelines.forget();
  }

  #bindChosen(program: string, call: Call, choose: ChooseVariant, uniformIndex: number): Promise<Bound> {
    return this.#bind(program, call, choose(call, acceptedVariants(call, this.gpu)), uniformIndex);
  }

  async #bind(program: string, call: Call, variant: Variant, uniformIndex: number): Promise<Bound> {
    const defines = variant.defines(call, this.gpu.traits);
    const kernel = await this.#pipelines.get(variant.file, defines);
    const entries = kernel.interface.bindings.map((b): GPUBindGroupEntry => {
      if (b.space === "uniform") {
        return {
          binding: b.binding,
          resource: { buffer: this.#uniforms(), offset: uniformIndex * UNIFORM_STRIDE, size: UNIFORM_STRIDE },
        };
      }
      const t = call.tensors[b.name];
      if (!t) throw new Error(`${variant.file} binds ${b.name}, which ${call.label} does not give`);
      const access = call.kernel.bindings[b.name];
      if ((b.space === "read") !== (access === "read"))
        throw new Error(`${variant.file}: ${b.name} is ${b.space}, not ${access}`);
      const place = placeOf(this.plan, t, program);
      return {
        binding: b.binding,
        resource: { buffer: this.#buffer(place.buffer), offset: place.offsetBytes, size: place.bytes },
      };
    });
    const group = this.gpu.device.createBindGroup({ label: call.label, layout: kernel.layout, entries });
    return { variant, defines, kernel, group };
  }

  /**
   * Times one call of a planned program with one variant, in milliseconds (best of `repeats`).
   * Only before programs are loaded: it borrows the first place in the uniform buffer.
   */
  async measure(program: string, call: Call, variant: Variant, repeats: number): Promise<number> {
    if (this.#programs.size > 0) throw new Error("measure before loading programs");
    const bound = await this.#bind(program, call, variant, 0);
    const { bytes } = uniformBytes({ name: program, calls: [call] }, [0], [bound.kernel.interface.sizes]);
    this.gpu.device.queue.writeBuffer(this.#uniforms(), 0, bytes);
    return this.#stopwatch.best((count) => {
      const encoder = this.gpu.device.createCommandEncoder({ label: call.label });
      const pass = encoder.beginComputePass();
      pass.setPipeline(bound.kernel.pipeline);
      pass.setBindGroup(0, bound.group);
      for (let i = 0; i < count; i++) pass.dispatchWorkgroups(...variant.grid(call, bound.defines));
      pass.end();
      return encoder.finish();
    }, repeats);
  }

  /** Bytes per second from host to GPU, into the largest buffer. Only before anything of worth is there. */
  async measureUpload(): Promise<number> {
    const index = this.plan.buffers.reduce(
      (best, b, i, all) => (b.bytes > (all[best]?.bytes ?? 0) ? i : best),
      0,
    );
    const bytes = Math.min(32 << 20, this.plan.buffers[index]?.bytes ?? 0) & ~3;
    const data = new Uint8Array(Math.min(4 << 20, bytes));
    const writeAll = async (): Promise<void> => {
      for (let at = 0; at < bytes; at += data.byteLength)
        await this.#uploader.write(this.#buffer(index), at, data.subarray(0, bytes - at));
      await this.#uploader.flush();
    };
    await writeAll();
    const start = performance.now();
    await writeAll();
    return bytes / ((performance.now() - start) / 1000);
  }

  /** The name of the variant that runs each call of a loaded program. */
  variants(programName: string): readonly string[] {
    return this.#loaded(programName).bound.map((b) => b?.variant.name ?? "transfer");
  }

  /**
   * Runs a program that has the structure of the loaded one of the same name, with this one's sizes.
   * Returns when the work is submitted and at most one submit is still running.
   */
  async run(program: Program, options: RunOptions = {}): Promise<void> {
    const { profiler } = this;
    const { signal } = options;
    const loaded = this.#loaded(program.name);
    const { bound } = loaded;
    const { steps, grids, flops } = this.#recording(loaded, program);
    let encoder: GPUCommandEncoder | undefined;
    let pass: GPUComputePassEncoder | undefined;
    let pipeline: GPUComputePipeline | undefined;
    let recorded = 0;
    for (let i = 0; i < steps.length; i++) {
      if (signal?.aborted) {
        await this.#arrived();
        signal.throwIfAborted();
      }
      const step = steps[i];
      const isAfterUpdate = step === Step.dispatchAfterUpdate || step === Step.transferAfterUpdate;
      if (step === Step.skip || (isAfterUpdate && !options.afterUpdate)) continue;
      if (step === Step.transfer || step === Step.transferAfterUpdate) {
        pass?.end();
        if (encoder) await this.#submit(encoder, recorded);
        encoder = pass = undefined;
        recorded = 0;
        const call = program.calls[i] as Call;
        await (profiler
          ? profiler.transfer(program.name, call, () => this.#transferWhole(program.name, call))
          : this.#transfer(program.name, call));
        continue;
      }
      const { kernel, group, variant } = bound[i] as Bound;
      encoder ??= this.gpu.device.createCommandEncoder({ label: program.name });
      if (!pass) {
        pass = encoder.beginComputePass(
          profiler?.pass(program.name, program.calls[i] as Call, variant.name) ?? { label: program.name },
        );
        pipeline = undefined;
      }
      if (kernel.pipeline !== pipeline) pass.setPipeline((pipeline = kernel.pipeline));
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(grids[3 * i] ?? 0, grids[3 * i + 1], grids[3 * i + 2]);
      recorded += flops[i] ?? 0;
      if (profiler) {
        pass.end();
        pass = undefined;
      }
      if (profiler?.isFull || recorded >= this.#flopsPerMs * SUBMIT_MS) {
        pass?.end();
        await this.#submit(encoder, recorded);
        encoder = pass = undefined;
        recorded = 0;
      }
    }
    if (encoder) {
      pass?.end();
      await this.#submit(encoder, recorded);
    }
    await this.#arrived();
  }

  /** Moves a tensor from or to the host, in order with the work that was submitted before. */
  async #transfer(program: string, call: Call): Promise<void> {
    const { t } = call.tensors;
    const { host } = this;
    const name = call.host ?? "";
    if (!t || !host) throw new Error(`${call.label} needs a tensor and a host`);
    const place = placeOf(this.plan, t, program);
    const bytes = size(call, "bytes");
    if (call.kernel.transfer === "download") {
      this.#arriving.add(name);
      const take = (at: number, piece: Uint8Array): void => host.write(name, at, piece, bytes);
      await this.#downloader.start(this.#buffer(place.buffer), place.offsetBytes, bytes, take);
      return;
    }
    if (this.#arriving.has(name)) await this.#arrived();
    const data = await host.read(name, bytes, size(call, "offset"));
    await this.#uploader.write(this.#buffer(place.buffer), place.offsetBytes, data);
  }

  /** Waits until all downloads are on the host. */
  async #arrived(): Promise<void> {
    await this.#downloader.finish();
    this.#arriving.clear();
  }

  /** A transfer to its end, to be timed alone. */
  async #transferWhole(program: string, call: Call): Promise<void> {
    await this.#transfer(program, call);
    await this.#arrived();
    await this.#uploader.flush();
  }

  #running: { readonly done: Promise<unknown>; readonly flops: number; readonly since: number } | undefined;

  /** Submits; waits for the submit before, and learns from it how much fits into one. */
  async #submit(encoder: GPUCommandEncoder, flops: number): Promise<void> {
    const before = this.#running;
    this.profiler?.resolve(encoder);
    this.gpu.device.queue.submit([encoder.finish()]);
    this.#running = { done: this.gpu.device.queue.onSubmittedWorkDone(), flops, since: performance.now() };
    if (before) {
      await restfully(before.done, this.gpu.traits.isSoftware ? 1 : 0.1);
      this.gpu.check();
      const ms = performance.now() - before.since;
      if (before.flops > 1e6 && ms > 1) {
        const measured = before.flops / ms;
        this.#flopsPerMs = Math.min(Math.max(measured, this.#flopsPerMs / 2), this.#flopsPerMs * 2);
      }
    }
    if (this.profiler) {
      await this.profiler.collect();
      this.#running = undefined;
    }
  }

  /** What a program comes to; afterwards its sizes are in the uniform buffer. */
  #recording(loaded: Loaded, program: Program): Recording {
    let recording = loaded.recordings.get(program);
    if (!recording) {
      recording = recordingOf(program, loaded.bound, loaded.uniforms);
      loaded.recordings.set(program, recording);
    }
    if (loaded.current !== recording) {
      const { offsetBytes, bytes } = recording.uniforms;
      this.gpu.device.queue.writeBuffer(this.#uniforms(), offsetBytes, bytes);
      loaded.current = recording;
    }
    return recording;
  }

  /** Uploads a tensor's bytes (padded to a multiple of 4), paced. `offsetBytes` starts inside the tensor. */
  async write(t: Tensor, data: Uint8Array, offsetBytes = 0): Promise<void> {
    const place = placeOf(this.plan, t);
    if (offsetBytes + data.byteLength > place.bytes)
      throw new Error(`${t.name}: ${data.byteLength} bytes do not fit ${place.bytes}`);
    await this.#uploader.write(this.#buffer(place.buffer), place.offsetBytes + offsetBytes, data);
  }

  /** Copies a tensor (or its first bytes, a multiple of 4) to the host through the planned read-back buffer: nothing is created. */
  async read(t: Tensor, bytes: number = tensorBytes(t)): Promise<ArrayBuffer> {
    const index = this.plan.buffers.findIndex((p) => p.label === READBACK_LABEL);
    const staging = this.#buffer(index);
    const stagingBytes = this.plan.buffers[index]?.bytes ?? 0;
    const place = placeOf(this.plan, t);
    const out = new Uint8Array(bytes);
    for (let at = 0; at < bytes; at += stagingBytes) {
      const count = Math.min(stagingBytes, bytes - at);
      out.set(
        new Uint8Array(
          await readThrough(this.gpu, this.#buffer(place.buffer), place.offsetBytes + at, count, staging),
        ),
        at,
      );
    }
    return out.buffer;
  }

  /** Waits until nothing is running and all uploads are done. */
  async idle(): Promise<void> {
    await this.#uploader.flush();
    this.#running = undefined;
  }

  /** Gives all memory back. */
  async release(): Promise<void> {
    await this.idle();
    for (const buffer of this.#buffers) this.gpu.ledger.release(buffer);
    this.#buffers.length = 0;
    await this.idle();
  }

  #loaded(name: string): Loaded {
    const loaded = this.#programs.get(name);
    if (!loaded) throw new Error(`program ${name} is not loaded`);
    return loaded;
  }

  #uniforms(): GPUBuffer {
    return this.#buffer(this.plan.buffers.findIndex((p) => p.label === UNIFORM_LABEL));
  }

  #buffer(index: number): GPUBuffer {
    const buffer = this.#buffers[index];
    if (!buffer) throw new Error(`no buffer ${index}`);
    return buffer;
  }
}

const isDownload = (label: string): boolean => DOWNLOAD_LABELS.some((l) => l === label);
