/** Matrices are tried before a run trusts them; drivers that are wrong are stood in for by shaders that are. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { OutOfGpuMemoryError } from "../../src/gpu/errors.js";
import { triedText, TRIALS, tryMatrices } from "../../src/kernels/matrix_trial.js";
import { expandWgsl } from "../../src/gpu/wgsl.js";
import { hasHalfMatrices } from "../../src/kernels/product_matrix.js";
import { openTrusted } from "../../src/kernels/trusted_gpu.js";
import { halfProductsOn } from "../../src/train/half_products.js";
import { useGpu } from "./harness.js";
import { VENDORS } from "./matrix_vendors.js";

const context = useGpu();
const TRYING = "trying this GPU's matrix units (once)";
const NO_MATRICES = "this adapter has no f16 matrices";
const hasMatrices = (): boolean => hasHalfMatrices(context.gpu.traits);

/** A software GPU takes a second for each shader of them. */
const FEW: readonly string[] = ["product forward of few rows", "attention of 64 forward"];
const some = () =>
  context.gpu.traits.isSoftware ? TRIALS.filter(({ call }) => FEW.includes(call.label)) : TRIALS;

describe("the trial", () => {
  afterEach(() => vi.restoreAllMocks());

  it("finds nothing where matrices are right", async ({ skip }) => {
    skip(!hasMatrices(), NO_MATRICES);
    expect(await tryMatrices(context.gpu, some())).toEqual([]);
    expect(context.gpu.ledger.bytes).toBe(0);
  });

  it("names the calls whose matrices lie elsewhere than the driver reads", async ({ skip }) => {
    skip(!hasMatrices(), NO_MATRICES);
    const { device } = context.gpu;
    const create = device.createShaderModule.bind(device);
    // Left matrices from 16 bytes further on; NVIDIA's driver read four too early.
    const moved = (code: string): string =>
      code.replaceAll(/(row_major>\(&x_tile.*?, )(\d+)u/g, "$1$2u + 8u");
    vi.spyOn(device, "createShaderModule").mockImplementation((d) => create({ ...d, code: moved(d.code) }));
    const faults = await tryMatrices(context.gpu, some());
    const products = some().filter(({ call }) => call.label.includes("product"));
    for (const { call } of products) {
      const found = faults.find((fault) => fault.startsWith(`${call.label} (matrix) by `));
      expect(found).toBeDefined();
      expect(Number(found?.split(" by ")[1])).not.toBeLessThan(0.05);
    }
    expect(faults.filter((fault) => fault.startsWith("attention"))).toEqual([]);
  });

  it("has every kind of call on the matrices of every vendor, and a tile to compare with", async () => {
    const nothing = await openGpu({ backend: "null" });
    for (const [name, traits] of Object.entries(VENDORS)) {
      for (const { call } of TRIALS) {
        const accepted = call.kernel.variants.filter((v) => v.accepts(call, traits));
        expect(
          accepted.map((v) => v.name),
          `${name}: ${call.label}`,
        ).toContain("tile");
        for (const v of accepted) {
          const code = expandWgsl(v.file, v.defines(call, traits));
          const { messages } = await nothing.device.createShaderModule({ code }).getCompilationInfo();
          expect(messages.filter((m) => m.type === "error").map((m) => m.message)).toEqual([]);
        }
      }
      const left = TRIALS.filter(
        ({ call }) => !call.kernel.variants.some((v) => v.name === "matrix" && v.accepts(call, traits)),
      );
      // Sums of two f16 pay on NVIDIA alone.
      const split = left.filter(({ call }) => call.label.startsWith("split"));
      expect(left, name).toEqual(split);
      expect(split, name).toHaveLength(traits.vendor === "nvidia" ? 0 : 3);
    }
    expect(new Set(TRIALS.map(({ call }) => call.kernel.name)).size).toBe(8);
    await nothing.destroy();
  });
});

describe("a GPU with a trial", () => {
  const before = process.env["QDORA_CACHE"];
  const cache = mkdtempSync(join(tmpdir(), "qdora-trust-"));
  afterAll(() => rmSync(cache, { recursive: true }));
  beforeEach(() => {
    rmSync(join(cache, "tune"), { recursive: true, force: true });
    process.env["QDORA_CACHE"] = cache;
  });
  afterEach(() => {
    if (before === undefined) delete process.env["QDORA_CACHE"];
    else process.env["QDORA_CACHE"] = before;
  });

  /** Opens with a trial that finds this, or throws. @returns what was said, and whether there was a trial */
  async function opened(found: readonly string[] | Error, onSoftware = true) {
    const lines: string[] = [];
    const say = (line: string): void => void (line === TRYING || lines.push(line));
    let trials = 0;
    const trial = async (gpu: Gpu): Promise<readonly string[]> => {
      trials++;
      if (!(found instanceof Error)) return found;
      gpu.device.destroy();
      throw found;
    };
    const { gpu, matrices } = await openTrusted({}, say, { trial, onSoftware });
    const { traits } = gpu;
    await gpu.idle();
    await gpu.destroy();
    return { lines, trials, matrices, traits };
  }

  it("keeps matrices that are right, and remembers that", async ({ skip }) => {
    skip(!hasMatrices(), NO_MATRICES);
    const first = await opened([]);
    expect(first).toMatchObject({ lines: [], trials: 1, matrices: "right", traits: context.gpu.traits });
    expect(await opened(["never asked"])).toEqual({ ...first, trials: 0 });
  });

  it("has none where they are wrong, says so each time, and tries them once", async ({ skip }) => {
    skip(!hasMatrices(), NO_MATRICES);
    const first = await opened(["a by 1.9", "b by NaN", "c by 2", "d by 3"]);
    expect(first.matrices).toBe("wrong");
    expect(first.traits).toEqual({ ...context.gpu.traits, matrixShapes: [] });
    expect(halfProductsOn("auto", { ...first.traits, isSoftware: false })).toBe(false);
    expect(first.lines).toEqual([
      `note: the matrix units of ${first.traits.name} give wrong numbers with this driver: a by 1.9, b by NaN, c by 2, and 1 more off; plain kernels run in their place. Please report this, with the output of \`qdora doctor\``,
    ]);
    expect(await opened([])).toEqual({ ...first, trials: 0 });
  });

  it("has none where the trial loses its device, and tries again the next time", async ({ skip }) => {
    skip(!hasMatrices(), NO_MATRICES);
    const first = await opened(new Error("the device was lost\nmore"));
    expect(first).toMatchObject({ trials: 1, matrices: "wrong", traits: { matrixShapes: [] } });
    expect(first.lines).toEqual([expect.stringMatching(/fail with this driver: the device was lost; plain/)]);
    expect(await opened([])).toMatchObject({ trials: 1, matrices: "right", lines: [] });
  });

  it("keeps them where the card is full, which the run will say, and tries again the next time", async ({
    skip,
  }) => {
    skip(!hasMatrices(), NO_MATRICES);
    const full = await opened(new OutOfGpuMemoryError("x", 4));
    expect(full).toMatchObject({ trials: 1, matrices: "untried", lines: [], traits: context.gpu.traits });
    expect((await opened([])).trials).toBe(1);
  });

  it("tries again where what is remembered is broken, or is of other shaders", async ({ skip }) => {
    skip(!hasMatrices(), NO_MATRICES);
    await opened([]);
    const [file = ""] = readdirSync(join(cache, "tune"));
    writeFileSync(join(cache, "tune", file), '{"faults":');
    expect((await opened([])).trials).toBe(1);
    expect((await opened([])).trials).toBe(0);
    const texts = Object.values(VENDORS).map((traits) => triedText(traits));
    expect(new Set(texts).size).toBe(texts.length);
  });

  it("has no trial on a software adapter, which would take half a minute", async ({ skip }) => {
    skip(!hasMatrices() || !context.gpu.traits.isSoftware, "this adapter is none, or has no matrices");
    const { trials, matrices, traits } = await opened(["never asked"], false);
    expect({ trials, matrices }).toEqual({ trials: 0, matrices: "untried" });
    expect(traits).toEqual(context.gpu.traits);
    expect(readdirSync(cache)).toEqual([]);
  });
});
