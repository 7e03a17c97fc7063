/** Compiles expanded WGSL into pipelines, each once, many at the same time; errors carry the kernel's label. */
import { GpuError } from "./errors.js";
import type { Gpu } from "./device.js";
import { restfully } from "./wait.js";
import { expandWgsl, wgslInterface, type Values, type WgslInterface } from "./wgsl.js";

export interface CompiledKernel {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly interface: WgslInterface;
}

export class Pipelines {
  readonly #gpu: Gpu;
  readonly #cache = new Map<string, Promise<CompiledKernel>>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** The pipeline of a file with these defines. @throws GpuError with file, defines and the compiler's message. */
  get(file: string, defines: Values): Promise<CompiledKernel> {
    const key = `${file} ${JSON.stringify(defines, Object.keys(defines).toSorted())}`;
    let compiled = this.#cache.get(key);
    if (!compiled) {
      compiled = this.#compile(file, defines, key);
      this.#cache.set(key, compiled);
    }
    return compiled;
  }

  async #compile(file: string, defines: Values, key: string): Promise<CompiledKernel> {
    const { device, traits } = this.#gpu;
    const code = expandWgsl(file, defines);
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
    const compute: GPUProgrammableStage = {
      module: device.createShaderModule({ label: key, code }),
      entryPoint: "main",
    };
    const pipelineLayout = device.createPipelineLayout({ bindGroupLayouts: [layout] });
    try {
      const made = device.createComputePipelineAsync({ label: key, layout: pipelineLayout, compute });
      const pipeline = await restfully(made, traits.isSoftware ? 1 : 0.1);
      return { pipeline, layout, interface: shader };
    } catch (cause) {
      const info = await compute.module.getCompilationInfo();
      const messages = info.messages
        .filter((m) => m.type === "error")
        .map((m) => `line ${m.lineNum}: ${m.message}`);
      throw new GpuError(key, messages.length > 0 ? messages.join("\n") : String(cause));
    }
  }
}
