/** Few shaders are compiled at once, and what is not needed again is collected although V8 does not see its weight. */
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../src/gpu/collect.js";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Pipelines } from "../../src/gpu/pipelines.js";

Object.assign(globalThis, { GPUShaderStage: { COMPUTE: 4 } });

/** A device whose compilations end when they are told to. */
function slowGpu(isSoftware: boolean) {
  const started: PromiseWithResolvers<object>[] = [];
  const device = {
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    pushErrorScope: () => undefined,
    popErrorScope: () => Promise.resolve(null),
    createShaderModule: () => ({ getCompilationInfo: () => Promise.resolve({ messages: [] }) }),
    createComputePipelineAsync: () => {
      const promise = withResolvers();
      started.push(promise);
      return promise.promise;
    },
  };
  return { gpu: { device, traits: { isSoftware } } as unknown as Gpu, started };
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
}

function withResolvers(): PromiseWithResolvers<object> {
  let [resolve, reject] = [(_: object): void => undefined, (_: unknown): void => undefined];
  const promise = new Promise<object>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

describe("Pipelines", () => {
  test("compiles two at once on a software GPU, the next when one ends, also when it fails", async () => {
    const { gpu, started } = slowGpu(true);
    const pipelines = new Pipelines(gpu);
    const made = [64, 128, 192, 256].map((LANES) => pipelines.get("swiglu_forward.wgsl", { LANES }));
    const ends = Promise.allSettled(made);
    await turn();
    expect(started).toHaveLength(2);
    started[1]?.reject(new Error("no registers left"));
    await turn();
    expect(started).toHaveLength(3);
    started[0]?.resolve({});
    await turn();
    expect(started).toHaveLength(4);
    started[2]?.resolve({});
    started[3]?.resolve({});
    expect((await ends).map((e) => e.status)).toEqual(["fulfilled", "rejected", "fulfilled", "fulfilled"]);
    await expect(made[1]).rejects.toThrow(/swiglu_forward\.wgsl.*128[\s\S]*no registers left/);
  });

  test("keeps real GPUs' compilers busy", async () => {
    const { gpu, started } = slowGpu(false);
    const pipelines = new Pipelines(gpu);
    const made = Array.from({ length: 8 }, (_, i) =>
      pipelines.get("swiglu_forward.wgsl", { LANES: 32 * (i + 1) }),
    );
    await turn();
    expect(started).toHaveLength(8);
    for (const s of started) s.resolve({});
    await Promise.all(made);
  });

  test("compiles a text once, and again after it was forgotten", async () => {
    const { gpu, started } = slowGpu(true);
    const pipelines = new Pipelines(gpu);
    const get = async (): Promise<unknown> => {
      const made = pipelines.get("swiglu_forward.wgsl", { LANES: 64 });
      await turn();
      started.at(-1)?.resolve({});
      return made;
    };
    expect(await get()).toBe(await get());
    expect(started).toHaveLength(1);
    pipelines.forget();
    await get();
    expect(started).toHaveLength(2);
  });

  test("throws what is wrong with a shader, which fails nothing else on its device", async () => {
    const gpu = await openGpu({ backend: "null" });
    try {
      const pipelines = new Pipelines(gpu);
      await expect(pipelines.get("swiglu_forward.wgsl", { LANES: 0 })).rejects.toThrow(/line \d+: /);
      await gpu.idle();
      expect(await pipelines.get("swiglu_forward.wgsl", { LANES: 64 })).toHaveProperty("pipeline");
    } finally {
      await gpu.destroy();
    }
  });
});

describe("collectGarbage", () => {
  test("collects what nothing names, and lets nobody else do so", async () => {
    const dead = new WeakRef({ heavy: new Uint8Array(1 << 20) });
    await turn(); // a weak reference holds its object for the rest of the turn in which it is made
    await collectGarbage();
    expect(dead.deref()).toBeUndefined();
    expect("gc" in globalThis).toBe(false);
  });

  test.each([
    [[], "undefined"],
    [["--expose-gc"], "function"],
  ])("leaves the process's flags as they were: %j", (flags, expected) => {
    const code = `const { collectGarbage } = await import("./dist/gpu/collect.js");
      await collectGarbage();
      console.log((await import("node:vm")).runInNewContext("typeof gc"));`;
    const run = spawnSync(process.execPath, [...flags, "--input-type=module", "-e", code], {
      encoding: "utf8",
    });
    expect(run.stdout).toBe(`${expected}\n`);
  });
});
