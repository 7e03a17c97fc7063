/** Compiles expanded WGSL into pipelines, each once, a few at the same time; errors carry the kernel's label. */
import { collectGarbage } from "./collect.js";
import { GpuError } from "./errors.js";
import type { Gpu } from "./device.js";
import { restfully } from "./wait.js";
import { expandWgsl, wgslInterface, type Values, type WgslInterface } from "./wgsl.js";

export interface CompiledKernel {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly interface: WgslInterface;
}

/** Compiled at once. What a compiler's thread leaves free of its heap only serves that thread, and with a software GPU it is heavy. */
const AT_ONCE = { software: 2, hardware: 8 };
/** Characters of WGSL whose modules may wait to be collected: each holds some 70 bytes of Dawn's memory. */
const COLLECTED_CHARACTERS = 300_000;

export class Pipelines {
  readonly #gpu: Gpu;
  readonly #cache = new Map<string, Promise<CompiledKernel>>();
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #compiledCharacters = 0;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#free = gpu.traits.isSoftware ? AT_ONCE.software : AT_ONCE.hardware;
  }

  /** The pipeline of a file with these defines. @throws GpuError with file, defines and the compiler's message. */
  get(file: string, defines: Values): Promise<CompiledKernel> {
    const key = `${file} ${JSON.stringify(defines, Object.keys(defines).toSorted())}`;
    let compiled = this.#cache.get(key);
    if (!compiled) {
      compiled = this.#inTurn(() => this.#compile(file, defines, key));
      this.#cache.set(key, compiled);
    }
    return compiled;
  }

  /** Keeps no pipeline that nobody else does: those of variants that were only measured go. */
  forget(): void {
    this.#cache.clear();
  }

  async #inTurn(compile: () => Promise<CompiledKernel>): Promise<CompiledKernel> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((start) => this.#waiting.push(start));
    try {
      const compiled = await compile();
      if (this.#compiledCharacters >= COLLECTED_CHARACTERS) {
        this.#compiledCharacters = 0;
        await collectGarbage();
      }
      return compiled;
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }

  async #compile(file: string, defines: Values, key: string): Promise<CompiledKernel> {
    const { device, traits } = this.#gpu;
    const code = expandWgsl(file, defines);
    this.#compiledCharacters += code.length;
    const shader = wgslInterface(code, file);
    const layout = device.createBindGroupLayout({
      label: key,
      entries: shader.bindings.map((b) => ({
        binding: b.binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: {
          type: b.space === "uniform" ? "uniform" : b.space === "read" ? "read-only-storage" : "storage",
        },
      })),
    });
    // What is wrong is thrown below. As an uncaptured error it would fail all that the device does later.
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: key, code });
    const scope = device.popErrorScope().catch(() => null);
    const compute: GPUProgrammableStage = { module, entryPoint: "main" };
    const pipelineLayout = device.createPipelineLayout({ bindGroupLayouts: [layout] });
    try {
      const made = device.createComputePipelineAsync({ label: key, layout: pipelineLayout, compute });
      const pipeline = await restfully(made, traits.isSoftware ? 1 : 0.1);
      return { pipeline, layout, interface: shader };
    } catch (cause) {
      await scope;
      const info = await module.getCompilationInfo();
      const messages = info.messages
        .filter((m) => m.type === "error")
        .map((m) => `line ${m.lineNum}: ${m.message}`);
      throw new GpuError(key, messages.length > 0 ? messages.join("\n") : String(cause));
    }
  }
}
