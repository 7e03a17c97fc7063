/** Which modules can be taken as one, and where their rows lie. */
import { describe, expect, it } from "vitest";
import { adapterLayout } from "../../src/adapter/layout.js";
import type { Linear } from "../../src/adapter/linear.js";
import { rowNormCalls } from "../../src/adapter/row_norms.js";
import { memberRows, sharedDownCall, sharedInput, sharedRows } from "../../src/adapter/shared_input.js";
import { targetModules } from "../../src/adapter/targets.js";
import { tensor } from "../../src/program/tensor.js";

const SHAPES = [
  { path: "0.q_proj", in: 64, out: 96 },
  { path: "0.k_proj", in: 64, out: 32 },
  { path: "0.v_proj", in: 64, out: 32 },
];

interface Changes {
  readonly rank?: number;
  readonly rankPattern?: Readonly<Record<string, number>>;
  readonly alphaPattern?: Readonly<Record<string, number>>;
  readonly width?: number;
  /** Scales and squares in an arena, as models have them. */
  readonly arenas?: boolean;
}

function linears({
  rank = 4,
  rankPattern = {},
  alphaPattern = {},
  width = 64,
  arenas = false,
}: Changes = {}): readonly Linear[] {
  const shapes = SHAPES.map((m) => ({ ...m, in: width }));
  const settings = {
    useDora: true,
    useRslora: false,
    rank,
    alpha: 8,
    targetModules: "all-linear",
    excludeModules: undefined,
    rankPattern,
    alphaPattern,
  };
  const layout = adapterLayout(targetModules(shapes, settings), settings, () => 0);
  return shapes.map(({ path, in: inputs, out }, m) => {
    const own = (name: string) =>
      tensor(
        `${path}.${name}`,
        [out, 1],
        "f32",
        "row_norm",
        arenas ? { name, bytes: 3 * 1024, offsetBytes: 1024 * m } : undefined,
      );
    const adapter = layout.modules.get(path);
    return {
      path,
      weight: { format: "f32", out, in: inputs, values: tensor(path, [out, inputs], "f32", "weight") },
      scaleBias: own("scales"),
      rowSquares: own("squares"),
      ...(adapter && { adapter }),
    };
  });
}

describe("modules that share their input", () => {
  it("are one matrix from the first factor A on", () => {
    const modules = linears();
    const shared = sharedInput(modules);
    expect(shared).toMatchObject({ rank: 4, in: 64, scaling: 2, paths: SHAPES.map(({ path }) => path) });
    expect(shared?.a.shape).toEqual([12, 64]);
    expect(shared?.a.arena).toEqual(modules[0]?.adapter?.parameters.a.arena);
    expect(shared?.gradient.arena).toEqual(modules[0]?.adapter?.gradients.a.arena);
  });

  it("leave out those without an adapter", () => {
    const [q, k, v] = linears();
    const { adapter: _, ...bare } = k as Linear;
    expect(sharedInput([bare, v as Linear])).toBeUndefined();
    expect(sharedInput([k as Linear, v as Linear])?.paths).toEqual(["0.k_proj", "0.v_proj"]);
    // v's factor does not follow that of q.
    expect(sharedInput([q as Linear, bare, v as Linear])).toBeUndefined();
  });

  it("are none with other ranks, other scalings or padding between", () => {
    expect(sharedInput(linears({ rankPattern: { k_proj: 8 } }))).toBeUndefined();
    expect(sharedInput(linears({ alphaPattern: { k_proj: 1 } }))).toBeUndefined();
    expect(sharedInput(linears({ rank: 1, width: 70 }))).toBeUndefined();
  });

  it("have a block of rows each", () => {
    const shared = sharedInput(linears());
    if (!shared) throw new Error("q, k and v share their input");
    // 37 rows of 16 bytes end at 592, the next block begins at 768.
    const p = sharedRows("p", 37, shared);
    expect(p.strideBytes).toBe(768);
    const rows = memberRows(p, shared, "0.v_proj", { first: 16, count: 21 });
    expect(rows.view?.offsetBytes).toBe(2 * 768 + 16 * 16);
    expect(rows.shape).toEqual([21, 4]);
    const x = tensor("x", [21, 64]);
    const call = sharedDownCall(shared, x, p, { N: 21, first: 16 });
    expect(call.sizes).toMatchObject({ N: 21, K: 64, rank: 12, member: 4, stride: 192, alpha: 2 });
    expect(call.tensors["p"]?.view?.offsetBytes).toBe(256);
    // To the last row of the last module.
    expect((call.tensors["p"]?.shape[0] ?? 0) * 4 + 256).toBe(3 * 768);
  });
});

describe("row norms", () => {
  const kernels = (modules: readonly Linear[]): readonly string[] =>
    rowNormCalls(modules, "test").map(({ kernel }) => kernel.name);

  it("are two calls behind the products where modules share buffers", () => {
    expect(kernels(linears({ arenas: true }))).toEqual([
      ...SHAPES.map(() => "dense_product_forward"),
      "adapter_gram",
      "dora_row_norm",
    ]);
  });

  it("are two for each module where they do not", () => {
    expect(kernels(linears())).toEqual(
      SHAPES.flatMap(() => ["dense_product_forward", "adapter_gram", "dora_row_norm"]),
    );
  });

  it("run after an update only, and not without a magnitude", () => {
    expect(rowNormCalls(linears(), "test").every(({ onlyAfterUpdate }) => onlyAfterUpdate)).toBe(true);
    expect(kernels(linears().map(({ rowSquares: _, ...lora }) => lora))).toEqual([]);
  });
});
