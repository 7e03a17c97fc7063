/** Plans against what is really allocated, and against the promises of README. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { resolveFinetuneConfig, type FinetuneConfig } from "../../src/config/resolve.js";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Executor } from "../../src/program/executor.js";
import { callClass } from "../../src/program/tuner.js";
import { fitMemory, memoryLimit, planRun, type PlannedRun } from "../../src/train/memory.js";
import { geometryShape } from "../../src/train/plan.js";
import { layoutOf } from "../../src/train/prepare.js";
import { savings } from "../../src/train/savings.js";

type Flags = Readonly<Record<string, string | number | boolean>>;

const configOf = (flags: Flags): Promise<FinetuneConfig> =>
  resolveFinetuneConfig(flags, undefined, ["model", "data", "output_dir"]);

async function planOf(geometry: string, flags: Flags): Promise<PlannedRun> {
  const config = await configOf(flags);
  return fitMemory(geometryShape(geometry, config), config, await memoryLimit(config));
}

/** Every switch, one at a time and together with others. */
const SWITCHES: readonly Flags[] = [
  {},
  { use_dora: false },
  { rank: 1 },
  { rank: 64, use_rslora: true },
  { optimizer: "adamw8bit" },
  { compute_dtype: "f32" },
  { checkpoint_place: "host" },
  { checkpoint_place: "host", checkpoint_dtype: "f32" },
  { checkpoint_dtype: "f32" },
  { quant_head: "int8" },
  { quant_head: "nf4" },
  { quant_head: "nf4", double_quant: false },
  { quant: "none" },
  { double_quant: false },
  { gradient_checkpointing: "none" },
  { gradient_checkpointing: "selective" },
  { stream_layers: "all" },
  { stream_layers: "3", checkpoint_place: "host", optimizer: "adamw8bit", quant_head: "nf4" },
  { token_chunk: 128 },
  { target_modules: "q_proj,v_proj" },
  { batch_size: 3, val_size: 2 },
  { memory_limit: "1GB" },
];

const SHAPES: readonly (readonly [string, number])[] = [
  ["smollm2-135m", 100],
  ["qwen3-0.6b", 700],
  ["llama-3.2-1b", 2048],
];

describe("the ledger holds what was planned, to the byte", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openGpu();
  });
  afterAll(async () => {
    await gpu.destroy();
  });
  for (const [geometry, tokens] of SHAPES) {
    it.each(SWITCHES)(`${geometry}, ${tokens} tokens, %j`, async (flags) => {
      const { plan } = await planOf(geometry, { max_seq_length: tokens, ...flags });
      const before = gpu.ledger.bytes;
      const executor = await Executor.allocate(gpu, plan);
      expect(gpu.ledger.bytes - before).toBe(plan.totalBytes);
      expect([...plan.bytesByKind.values()].reduce((a, b) => a + b)).toBe(plan.totalBytes);
      await executor.release();
      expect(gpu.ledger.bytes).toBe(before);
    });
  }
});

describe("the table of README", () => {
  const LEAN = { optimizer: "adamw8bit" };
  const HOST = { ...LEAN, checkpoint_place: "host" };
  const COLUMNS: readonly Flags[] = [{}, LEAN, HOST, { ...HOST, quant_head: "nf4" }];
  it.each([
    ["llama-2-7b", [5.2, 4.9, 4.3, 4.1]],
    ["llama-3.1-8b", [6.3, 5.9, 5.35, 4.6]],
    ["llama-2-13b", [9.2, 8.8, 7.9, 7.6]],
  ] as const)("%s trains 2,048 tokens within the promised gigabytes", async (geometry, limits) => {
    for (const [i, flags] of COLUMNS.entries()) {
      const { plan } = await planOf(geometry, { max_seq_length: 2048, ...flags });
      expect(plan.totalBytes / 1e9).toBeLessThanOrEqual(limits[i] ?? 0);
    }
  });

  it.each([
    // The fewer the tokens, the lower the rank and the leaner all else, the larger is DoRA's share.
    ["qwen2.5-1.5b", { max_seq_length: 256, rank: 1, ...HOST, quant_head: "nf4" }],
    ["qwen2.5-1.5b", { max_seq_length: 256, rank: 1, ...HOST, quant_head: "nf4", stream_layers: "8" }],
    ["qwen2.5-1.5b", { max_seq_length: 256, ...HOST, quant_head: "nf4", stream_layers: "all" }],
    ["llama-3.2-1b", { max_seq_length: 256, rank: 1, ...HOST, quant_head: "nf4" }],
    ["llama-3.2-1b", { max_seq_length: 2048 }],
    ["qwen3-4b", { max_seq_length: 2048, ...HOST, quant_head: "nf4" }],
    ["llama-2-7b", { max_seq_length: 2048, ...HOST, quant_head: "nf4", stream_layers: "all" }],
    ["llama-3.1-8b", { max_seq_length: 2048 }],
  ] as const)("%s adds at most 1.5 % for DoRA: %j", async (geometry, flags) => {
    const dora = await planOf(geometry, flags);
    const lora = await planOf(geometry, { ...flags, use_dora: false });
    expect(dora.plan.totalBytes / lora.plan.totalBytes).toBeLessThanOrEqual(1.015);
  });

  it.each([
    [{}, ["down_proj"]],
    [{ checkpoint_place: "host" }, ["down_proj"]],
    [{ gradient_checkpointing: "selective" }, ["down_proj"]],
    [{ gradient_checkpointing: "selective", checkpoint_place: "host" }, ["down_proj"]],
    [{ gradient_checkpointing: "none" }, []],
    [{ checkpoint_dtype: "f32", checkpoint_place: "host" }, []],
  ] as const)(
    "repeats products for DoRA's magnitudes in the last layer at most: %j",
    async (flags, again) => {
      const productsOf = async (use_dora: boolean) => {
        const { programs } = await planOf("llama-3.2-1b", { max_seq_length: 700, ...flags, use_dora });
        const labels = (programs[0]?.calls ?? []).flatMap(({ kernel, label, onlyAfterUpdate }) =>
          kernel.name === "nf4_product_forward" && !onlyAfterUpdate ? [label] : [],
        );
        return labels.toSorted();
      };
      const lora = await productsOf(false);
      const chunks = 3;
      const more = again.flatMap((role) =>
        Array.from({ length: chunks }, () => `model.layers.15.mlp.${role} forward`),
      );
      expect(await productsOf(true)).toEqual([...lora, ...more].toSorted());
    },
  );

  it("streams a 7 B model with all its trained state through less than a fifth of its weights", async () => {
    const { plan } = await planOf("llama-2-7b", { max_seq_length: 256, stream_layers: "all" });
    expect(plan.totalBytes).toBeLessThanOrEqual(0.64e9);
    const lean = await planOf("llama-2-7b", {
      max_seq_length: 256,
      stream_layers: "all",
      ...HOST,
      quant_head: "nf4",
    });
    expect(lean.plan.totalBytes).toBeLessThanOrEqual(0.38e9);
    for (const kind of ["adapter", "moment"] as const)
      expect(lean.plan.bytesByKind.get(kind) ?? 0, kind).toBeLessThan(4096);
  });
});

describe("fitMemory", () => {
  it("changes nothing without need, then moves checkpoints, then streams as few layers as it can", async () => {
    const flags = { max_seq_length: 2048 };
    const whole = await planOf("llama-3.1-8b", flags);
    const choices = async (limit: number) => {
      const run = await planOf("llama-3.1-8b", { ...flags, memory_limit: limit });
      expect(run.plan.totalBytes).toBeLessThanOrEqual(limit);
      return [run.storage.checkpointPlace, run.residentLayers];
    };
    expect(await choices(whole.plan.totalBytes)).toEqual(["gpu", 32]);
    expect(await choices(whole.plan.totalBytes - 1)).toEqual(["host", 32]);
    expect(await choices(4e9)).toEqual(["host", 18]);
    const tight = await planOf("llama-3.1-8b", { ...flags, memory_limit: 5e8 });
    expect(tight.residentLayers).toBe(0);
    expect(tight.plan.totalBytes).toBeGreaterThan(5e8);
  });

  it.each<readonly [string, Flags]>([
    ["smollm2-135m", {}],
    // Only the last layers are trained: an average says little about the first.
    ["smollm2-135m", { target_modules: String.raw`.*layers\.2\d\..*_proj`, rank: 128 }],
  ])("streams no layer more than the limit needs: %s, %j", async (geometry, flags) => {
    const config = await configOf({ max_seq_length: 256, checkpoint_place: "host", ...flags });
    const shape = geometryShape(geometry, config);
    const all = fitMemory(shape, { ...config, stream_layers: "all" }, undefined);
    for (const spare of [0, 8e6, 40e6]) {
      const limit = all.plan.totalBytes + spare;
      const run = fitMemory(shape, config, limit);
      expect(run.plan.totalBytes).toBeLessThanOrEqual(limit);
      const more = planRun(shape, { ...run, residentLayers: run.residentLayers + 1 });
      expect(more.plan.totalBytes, String(spare)).toBeGreaterThan(limit);
    }
  });

  it("does not stream a model that a ring would only make larger", async () => {
    const config = await configOf({ max_seq_length: 256 });
    const whole = geometryShape("smollm2-135m", config);
    const arch = { ...whole.arch, layers: 2, windows: [0, 0] };
    const shape = { ...whole, arch, layout: layoutOf(arch, config) };
    const run = fitMemory(shape, config, 1e6);
    expect(run.residentLayers).toBe(2);
    expect(run.plan.totalBytes).toBeLessThanOrEqual(fitMemory(shape, config, undefined).plan.totalBytes);
  });

  it("counts layers that wait on the disk once, as the one that passes through memory", async () => {
    const [ram, disk] = await Promise.all(
      ["ram", "disk"].map((layer_cache) =>
        planOf("llama-3.1-8b", { max_seq_length: 256, stream_layers: "all", layer_cache }),
      ),
    );
    const frozenBytes = ram?.model.ring?.frozenBytes ?? 0;
    expect(ram?.host.get("streamed layers")).toBe(32 * frozenBytes);
    expect(disk?.host.get("streamed layers")).toBe(frozenBytes);
  });

  it("keeps what was asked for", async () => {
    const asked = { max_seq_length: 2048, checkpoint_place: "gpu", stream_layers: "2", memory_limit: "2GB" };
    const run = await planOf("llama-2-7b", asked);
    expect([run.storage.checkpointPlace, run.residentLayers]).toEqual(["gpu", 30]);
  });

  it("keeps the inputs of layers that have backward, wherever they wait", async () => {
    const upper = { max_seq_length: 256, target_modules: String.raw`.*layers\.(2[4-9]|3.)\..*_proj` };
    const one = 256 * 4096 * 2;
    const onGpu = await planOf("llama-2-7b", upper);
    expect(onGpu.plan.bytesByKind.get("checkpoint")).toBe(8 * one);
    const onHost = await planOf("llama-2-7b", { ...upper, checkpoint_place: "host" });
    expect(onHost.host.get("checkpoints")).toBe(8 * one);
    const [microBatch] = onHost.programs;
    const moves = microBatch?.calls.filter((call) => call.host?.startsWith("checkpoint "));
    // There and back; all but the last layer also see what they put out.
    expect(moves).toHaveLength(16 + 7);
    // In f32 the decoder's output is one of them.
    const exact = await planOf("llama-2-7b", { ...upper, checkpoint_dtype: "f32" });
    expect(exact.plan.bytesByKind.get("checkpoint")).toBe(9 * 2 * one);
  });

  it.each(["llama-2-7b", "qwen2.5-1.5b"])(
    "runs calls of the same classes wherever layers wait, so that a resumed run keeps its kernels: %s",
    async (geometry) => {
      const classes = async (flags: Flags): Promise<readonly string[]> => {
        const { programs } = await planOf(geometry, { max_seq_length: 256, val_size: 2, ...flags });
        const calls = programs.flatMap((p) => p.calls).filter((call) => !call.kernel.transfer);
        return [...new Set(calls.map(callClass))].toSorted();
      };
      const resident = await classes({ stream_layers: "0", checkpoint_place: "gpu" });
      for (const stream_layers of ["all", "2"])
        expect(await classes({ stream_layers, checkpoint_place: "host" })).toEqual(resident);
    },
  );
});

describe("savings", () => {
  it("goes on from what the limit has moved to the host and streamed", async () => {
    const config = await configOf({ max_seq_length: 2048, memory_limit: 1.4e9 });
    const shape = geometryShape("llama-3.1-8b", config);
    const run = fitMemory(shape, config, 1.4e9);
    expect([run.storage.checkpointPlace, run.residentLayers]).toEqual(["host", 0]);
    expect(run.plan.totalBytes).toBeGreaterThan(1.4e9);
    const found = savings(shape, config, run, 1.4e9);
    expect(found.map((s) => s.change)).toEqual(["--token-chunk 128", "--quant-head int8"]);
    expect(found.at(-1)?.bytes).toBeLessThanOrEqual(1.4e9);
  });

  it("lists the cheapest changes until the run fits, with the bytes that each saves", async () => {
    const config = await configOf({ max_seq_length: 2048, checkpoint_place: "gpu", stream_layers: "0" });
    const shape = geometryShape("llama-2-7b", config);
    const run = fitMemory(shape, config, undefined);
    const found = savings(shape, config, run, 4.25e9);
    expect(found.map((s) => s.change)).toEqual([
      "--optimizer adamw8bit",
      "--token-chunk 128",
      "--checkpoint-place host",
    ]);
    let bytes = run.plan.totalBytes;
    for (const s of found) {
      expect(s.savedBytes).toBeGreaterThan(0);
      bytes -= s.savedBytes;
      expect(s.bytes).toBe(bytes);
    }
    expect(bytes).toBeLessThanOrEqual(4.25e9);
    // Layer inputs in 16 bits go to the host and come back, all but the first once more as what the layer below has put out.
    expect(found[2]?.transferBytes).toBe((2 * 32 + 31) * 2048 * 4096 * 2);
    expect(savings(shape, config, run, 1e12)).toEqual([]);
  });

  it("counts a byte for each value of a head in int8, and four for each row", async () => {
    const { plan } = await planOf("smollm2-135m", { max_seq_length: 100, quant_head: "int8" });
    expect(plan.bytesByKind.get("head")).toBe(49_152 * (576 + 4));
    // The tied embedding is then on the host.
    expect(plan.bytesByKind.get("embedding") ?? 0).toBe(0);
  });

  it("tries a head in int8 before one in NF4, and never proposes both", async () => {
    const config = await configOf({ max_seq_length: 2048, checkpoint_place: "host", optimizer: "adamw8bit" });
    const shape = geometryShape("llama-3.1-8b", config);
    const run = fitMemory(shape, config, undefined);
    const headsFor = (limit: number): readonly (readonly [string, number])[] =>
      savings(shape, config, run, limit)
        .filter((s) => s.change.startsWith("--quant-head"))
        .map((s) => [s.change, s.savedBytes]);
    const [int8] = headsFor(4.9e9);
    const [nf4, ...others] = headsFor(4.5e9);
    // [128256, 4096] in bf16, in bytes with an f32 a row, in NF4 with a byte and a little for each block; smaller tables have fewer parts.
    expect(int8?.[0]).toBe("--quant-head int8");
    expect(Math.abs((int8?.[1] ?? 0) - 128_256 * (2 * 4096 - 4100))).toBeLessThan(1e6);
    expect(nf4?.[0]).toBe("--quant-head nf4");
    expect(Math.abs((nf4?.[1] ?? 0) - 128_256 * (2 * 4096 - 4096 / 2 - 4096 / 64))).toBeLessThan(2e6);
    expect(others).toEqual([]);
  });

  it("starts from what was chosen to fit", async () => {
    const config = await configOf({ max_seq_length: 2048, stream_layers: "0", memory_limit: "5GB" });
    const shape = geometryShape("llama-3.1-8b", config);
    const run = fitMemory(shape, config, 5e9);
    expect(run.storage.checkpointPlace).toBe("host");
    const found = savings(shape, config, run, 5e9);
    expect(found[0]?.change).toBe("--optimizer adamw8bit");
    expect(found.at(-1)?.bytes).toBeLessThanOrEqual(5e9);
    expect(found.every((s) => s.savedBytes > 0)).toBe(true);
  });
});
