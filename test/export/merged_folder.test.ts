/** Merged folders on the GPU: the logits of real PEFT with the same adapter, and those of qdora's own base and adapter. */
import { readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mergeAdapter, type MergeOptions } from "../../src/export/merged_folder.js";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../../src/formats/floats.js";
import { readPeftAdapter, writePeftAdapter } from "../../src/formats/peft.js";
import { compareLogits, comparisonPrompts } from "../../src/generate/compare.js";
import type { Base } from "../../src/model/merged.js";
import { FIXTURES, floatTensors, integers, readJson } from "../fixture_files.js";
import { expectRefusal, temporaryFolder } from "../formats/made_files.js";
import { useGpu } from "../kernels/harness.js";
import { readyMadeNf4 } from "../model/ready_made.js";
import { wholeLogits } from "../model/whole_logits.js";

const context = useGpu();

const model = (name: string): string => join(FIXTURES, "models", name);
const adapterOf = (name: string): string => join(FIXTURES, "training", name, "expected", "adapter");
const options = (name: string, base: Base, more: Partial<MergeOptions> = {}): MergeOptions => ({
  model: model(name.endsWith("qwen2") ? "qwen2" : "llama"),
  adapter: adapterOf(name),
  outputDir: join(temporaryFolder(), "merged"),
  base,
  dtype: "F32",
  maxShardBytes: 5e9,
  ...more,
});
const NF4: Base = { kind: "nf4", doubleQuant: false };
const STORED: Base = { kind: "stored" };

/** Logits reach 11; PEFT computes them with other sums. */
const TOLERANCE = 1e-4;

describe("mergeAdapter", () => {
  for (const [name, base] of [
    ["dora_llama", STORED],
    ["qdora_llama", NF4],
    ["qdora_llama_dq", STORED],
    ["qlora_llama", NF4],
    ["qdora_rslora_llama", NF4],
    ["qdora_qwen2", NF4],
  ] as const) {
    it(`${name}: the merged model gives PEFT's logits`, async () => {
      // The golden run's nested maxima follow bitsandbytes' CPU rule: a folder made by that rule has them.
      const ready = name.endsWith("_dq") ? await readyMadeNf4(model("llama")) : undefined;
      const merge = options(name, base, ready === undefined ? {} : { model: ready });
      await mergeAdapter(merge);
      const probe = join(FIXTURES, "training", name, "expected", "probe.safetensors");
      const [ids, mask] = [await integers(probe, "input_ids"), await integers(probe, "attention_mask")];
      const length = ids.shape[1]!;
      const rows = [0, 1].map((r) =>
        ids.values.slice(r * length, (r + 1) * length).filter((_, i) => mask.values[r * length + i] === 1),
      );
      const all = (await floatTensors(probe)).get("logits_final")!;
      const vocab = all.length / ids.values.length;
      const want = mask.values.flatMap((kept, t) =>
        kept === 1 ? [...all.subarray(t * vocab, (t + 1) * vocab)] : [],
      );
      const how = { quant: "none", doubleQuant: false } as const;
      const got = await wholeLogits(merge.outputDir, how, rows, context.gpu);
      expect(got.length).toBe(want.length);
      expect(got.reduce((worst, v, i) => Math.max(worst, Math.abs(v - want[i]!)), 0)).toBeLessThan(TOLERANCE);
      if (ready !== undefined) {
        expect(readJson(merge.outputDir, "config.json")).not.toHaveProperty("quantization_config");
        await rm(ready, { recursive: true });
      }
    });
  }

  it("equals base and adapter as qdora runs them, to 1e-3 in full precision", async () => {
    const merge = options("dora_llama", STORED);
    await mergeAdapter(merge);
    const how = { quant: "none", doubleQuant: false } as const;
    const compare = async (adapter: string | undefined) =>
      compareLogits(
        { model: merge.model, adapter, ...how },
        { model: merge.outputDir, ...how },
        await comparisonPrompts(merge.model),
      );
    const same = await compare(merge.adapter);
    expect(same.positions).toBe(48);
    expect(same.sameChoice).toBe(48);
    expect(same.largestDifference).toBeLessThan(1e-3);
    // The measure sees a difference where there is one.
    expect((await compare(undefined)).largestDifference).toBeGreaterThan(0.1);
  });

  it("keeps stored types, or rounds all to one", async () => {
    const exact = options("qdora_qwen2", NF4);
    await mergeAdapter(exact);
    const full = await floatTensors(join(exact.outputDir, "model.safetensors"));
    for (const [dtype, stored, round] of [
      [undefined, "BF16", (v: Float32Array) => bf16ToF32(f32ToBf16(v))],
      ["BF16", "BF16", (v: Float32Array) => bf16ToF32(f32ToBf16(v))],
      ["F16", "F16", (v: Float32Array) => f16ToF32(f32ToF16(v))],
    ] as const) {
      const merge = options("qdora_qwen2", NF4, { dtype });
      const result = await mergeAdapter(merge);
      expect(result.dtypes).toEqual([stored]);
      const checkpoint = await openCheckpoint(merge.outputDir);
      for (const entry of checkpoint.tensors.values()) {
        expect(entry.dtype).toBe(stored);
        expect(await readAsF32(checkpoint, entry), entry.name).toEqual(round(full.get(entry.name)!));
      }
      await checkpoint.close();
      expect(readJson(merge.outputDir, "config.json")).toMatchObject({
        torch_dtype: stored === "BF16" ? "bfloat16" : "float16",
      });
    }
  });

  it("leaves nothing behind when its check fails or it is stopped", async () => {
    const failing = options("dora_llama", STORED);
    const refusal = mergeAdapter(failing, undefined, () => Promise.reject(new Error("unlike")));
    await expect(refusal).rejects.toThrow("unlike");
    const controller = new AbortController();
    const stopped = options("dora_llama", STORED, { signal: controller.signal });
    const work = mergeAdapter(stopped, ({ bytes }) => {
      if (bytes > 0) controller.abort();
    });
    await expect(work).rejects.toThrow(/aborted/);
    for (const { outputDir } of [failing, stopped]) expect(readdirSync(join(outputDir, ".."))).toEqual([]);
  });

  it("refuses f16 where it cannot hold a number, by name", async () => {
    const merge = options("dora_llama", STORED, { dtype: "F16" });
    const adapter = await readPeftAdapter(merge.adapter);
    const loud = new Map(
      [...adapter.tensors].map(([key, t]) => [
        key,
        key.endsWith("lora_magnitude_vector") ? { ...t, data: t.data.map(() => 1e7) } : t,
      ]),
    );
    const folder = temporaryFolder();
    await writePeftAdapter(folder, adapter.config, loud);
    await expectRefusal(
      mergeAdapter({ ...merge, adapter: folder }),
      "model.layers.0.",
      /weight: holds -?\d+\.\d+, too large for f16/,
    );
  });
});
