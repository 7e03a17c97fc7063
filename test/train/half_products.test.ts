/** Whether products may run in f16: by `compute_dtype`, by the adapter, by the checkpoint that a run goes on from. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PORTABLE_TRAITS, type AdapterTraits } from "../../src/gpu/traits.js";
import { option, type Program } from "../../src/program/kernel.js";
import { callClass } from "../../src/program/tuner.js";
import type { SavedRun } from "../../src/train/checkpoint.js";
import { halfProductsOn, resumedHalfProducts, withHalfProducts } from "../../src/train/half_products.js";
import { START } from "../../src/train/position.js";
import { prepareRun } from "../../src/train/prepare.js";
import { resumedVariants } from "../../src/train/restore.js";
import { FIXTURES } from "../fixture_files.js";
import { VENDORS } from "../kernels/matrix_vendors.js";
import { goldenConfig } from "./golden_run.js";

const DTYPES = ["f32", "auto", "f16"] as const;
const GOLDEN = join(FIXTURES, "training", "qdora_llama");
const NVIDIA = VENDORS["nvidia"]!;

const callsOf = (programs: readonly Program[]) => programs.flatMap((p) => p.calls);
const half = (programs: readonly Program[]) => callsOf(programs).filter((c) => option(c, "HALF") === 1);

describe("which products may round to f16", () => {
  const choices = (traits: AdapterTraits): readonly boolean[] =>
    DTYPES.map((dtype) => halfProductsOn(dtype, traits));

  it.each(Object.keys(VENDORS))("f16, and auto on matrices of %s", (name) => {
    expect(choices(VENDORS[name]!)).toEqual([false, true, true]);
  });

  it("not by auto on software, without matrices, or with others than f16's", () => {
    const [matrix] = NVIDIA.matrixShapes;
    for (const traits of [
      PORTABLE_TRAITS,
      { ...NVIDIA, isSoftware: true },
      { ...NVIDIA, matrixShapes: [{ ...matrix!, resultComponentType: "f16" }] },
      { ...NVIDIA, matrixShapes: [{ ...matrix!, componentType: "u8", resultComponentType: "u32" }] },
      { ...NVIDIA, features: new Set(["subgroups"]) },
    ])
      expect(choices(traits)).toEqual([false, false, true]);
  });
});

describe("a run with f16 products", () => {
  it("rounds in products with frozen weights and in attention after the loss, and splits inputs before it", async () => {
    const config = await goldenConfig(GOLDEN);
    for (const compute_dtype of DTYPES) {
      const run = await prepareRun({ ...config, compute_dtype });
      const onGpu = withHalfProducts(run, run.shape, halfProductsOn(compute_dtype, NVIDIA));
      const calls = callsOf(onGpu.programs);
      // Row norms are products with W too, but of the adapter's own numbers: they stay f32.
      const products = calls.filter(
        (c) => /forward$|dX$|^head|again$/.test(c.label) && /product/.test(c.kernel.name),
      );
      const forward = onGpu.programs.flatMap(({ calls: own }) => {
        const loss = own.findIndex((c) => c.kernel.name === "cross_entropy_backward");
        return own.slice(0, loss < 0 ? undefined : loss);
      });
      const attention = calls.filter(
        (c) => /^attention_(forward|backward)/.test(c.kernel.name) && !forward.includes(c),
      );
      expect(new Set(attention.map((c) => c.kernel.name)).size).toBe(3);
      expect(half(onGpu.programs), compute_dtype).toEqual(
        compute_dtype === "f32" ? [] : calls.filter((c) => products.includes(c) || attention.includes(c)),
      );
      expect(calls.filter((c) => option(c, "SPLIT") === 1)).toEqual(
        compute_dtype === "f32" ? [] : forward.filter((c) => products.includes(c)),
      );
    }
  });

  it.each(["full", "selective", "none"] as const)(
    "has the plan that was made without a GPU, byte for byte: %s",
    async (gradient_checkpointing) => {
      const config = await goldenConfig(GOLDEN);
      const run = await prepareRun({ ...config, compute_dtype: "auto", gradient_checkpointing, val_size: 2 });
      expect(half(run.programs)).toEqual([]);
      const onGpu = withHalfProducts(run, run.shape, true);
      expect(half(onGpu.programs).length).toBeGreaterThan(0);
      expect(onGpu.plan).toEqual(run.plan);
      expect(onGpu.host).toEqual(run.host);
      const tensors = (programs: readonly Program[]) => callsOf(programs).map((c) => c.tensors);
      expect(tensors(onGpu.programs)).toEqual(tensors(run.programs));
      const f16 = await prepareRun({ ...config, compute_dtype: "f16", gradient_checkpointing, val_size: 2 });
      expect(f16.plan).toEqual(run.plan);
    },
  );
});

describe("a run that goes on from a checkpoint", () => {
  const saved = (changes: object, compute_dtype = "auto"): Pick<SavedRun, "state" | "settings"> => ({
    settings: { compute_dtype },
    state: {
      ...START,
      epoch: 1,
      total_steps: 10,
      seed: 0,
      gpu: NVIDIA.name,
      fingerprints: { model: "m", data: "d", held_out_data: null, model_files: {} },
      ...changes,
    },
  });

  it("computes as it did on the same GPU", () => {
    expect(resumedHalfProducts("auto", NVIDIA, saved({ half_products: false }))).toBe(false);
    expect(resumedHalfProducts("auto", NVIDIA, saved({ half_products: true }))).toBe(true);
    const software = { ...NVIDIA, isSoftware: true };
    expect(resumedHalfProducts("auto", software, saved({ half_products: true }))).toBe(true);
  });

  it("chooses anew on another GPU, under another compute_dtype, and where the checkpoint does not say", () => {
    const no = { half_products: false };
    expect(resumedHalfProducts("auto", NVIDIA, saved({ ...no, gpu: "another" }))).toBe(true);
    expect(resumedHalfProducts("f16", NVIDIA, saved(no))).toBe(true);
    expect(resumedHalfProducts("auto", NVIDIA, saved(no, "f32"))).toBe(true);
    expect(resumedHalfProducts("f32", NVIDIA, saved({ half_products: true }))).toBe(false);
    expect(resumedHalfProducts("auto", NVIDIA, saved({}))).toBe(true);
  });

  it("takes its kernels along with that choice", async () => {
    const prepared = await prepareRun({ ...(await goldenConfig(GOLDEN)), compute_dtype: "auto" });
    const said: string[] = [];
    const variantsOf = (before: boolean, now: boolean) => {
      const { programs } = withHalfProducts(prepared, prepared.shape, before);
      const calls = callsOf(programs).filter((c) => !c.kernel.transfer);
      const variants = new Map(calls.map((c) => [callClass(c), "tile"]));
      const checkpoint: SavedRun = {
        ...saved({ half_products: before }),
        folder: "c",
        position: START,
        variants,
      };
      const run = { ...prepared, ...withHalfProducts(prepared, prepared.shape, now) };
      return resumedVariants(checkpoint, run, NVIDIA.name, (text) => said.push(text));
    };
    expect(variantsOf(true, true)?.size).toBeGreaterThan(0);
    expect(variantsOf(false, false)?.size).toBeGreaterThan(0);
    expect(said).toEqual([]);
    expect(variantsOf(false, true)).toBeUndefined();
  });
});
