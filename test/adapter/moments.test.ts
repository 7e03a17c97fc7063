import { describe, expect, it } from "vitest";
import { adapterLayout } from "../../src/adapter/layout.js";
import { MOMENT_MAPS, type MomentBits } from "../../src/adapter/moments.js";
import { targetModules } from "../../src/adapter/targets.js";
import { MOMENT_BLOCK } from "../../src/kernels/adamw8bit.js";
import { streamTensors } from "../../src/model/programs.js";
import { planMemory } from "../../src/program/planner.js";
import { tensorBytes } from "../../src/program/tensor.js";
import { optimizerProgram } from "../../src/train/optimizer.js";

interface Shape {
  readonly path: string;
  readonly in: number;
  readonly out: number;
}

function layoutOf(modules: readonly Shape[], bits: MomentBits, rank = 16, useDora = true) {
  const settings = {
    useDora,
    useRslora: false,
    rank,
    alpha: 2 * rank,
    targetModules: "all-linear",
    excludeModules: undefined,
    rankPattern: {},
    alphaPattern: {},
  };
  return adapterLayout(targetModules(modules, settings), settings, (m) => Number(m.path.split(".")[0]), bits);
}

const plan = (layout: ReturnType<typeof layoutOf>) =>
  planMemory([optimizerProgram(layout, streamTensors(1), undefined)], 0);

/** The linear modules of two layers of Llama 2 7B. */
const LLAMA = [0, 1].flatMap((layer) =>
  [
    ...["q", "k", "v", "o"].map((role) => [role, 4096, 4096] as const),
    ["gate", 4096, 11008] as const,
    ["up", 4096, 11008] as const,
    ["down", 11008, 4096] as const,
  ].map(([role, inputs, out]) => ({ path: `${layer}.${role}_proj`, in: inputs, out })),
);
/** Nothing here is a multiple of anything. */
const ODD = [
  { path: "0.q_proj", in: 33, out: 65 },
  { path: "0.down_proj", in: 7, out: 300 },
];

describe("8-bit moments", () => {
  it("take 2 + 2 x 4 / 256 bytes for a factor's parameter and 8 for a magnitude", () => {
    const factors = LLAMA.reduce((sum, m) => sum + 16 * (m.in + m.out), 0);
    const magnitudes = LLAMA.reduce((sum, m) => sum + m.out, 0);
    const maps = tensorBytes(MOMENT_MAPS);
    expect(maps).toBe(2048);
    const bytes = (bits: MomentBits, useDora: boolean) =>
      plan(layoutOf(LLAMA, bits, 16, useDora)).bytesByKind.get("moment");
    expect(bytes(32, true)).toBe(8 * (factors + magnitudes));
    expect(bytes(8, true)).toBe(2.03125 * factors + 8 * magnitudes + maps);
    expect(bytes(8, false)).toBe(2.03125 * factors + maps);
  });

  it("change nothing else in the plan where factors are whole blocks", () => {
    const [wide, narrow] = [plan(layoutOf(LLAMA, 32)), plan(layoutOf(LLAMA, 8))];
    for (const kind of ["adapter", "gradient", "staging"] as const)
      expect(narrow.bytesByKind.get(kind), kind).toBe(wide.bytesByKind.get(kind));
  });

  it("have blocks that neither span two tensors nor reach into magnitudes", () => {
    const layout = layoutOf(ODD, 8, 3);
    const [arena] = layout.arenas;
    expect(arena!.decayEnd % MOMENT_BLOCK).toBe(0);
    const starts = [...layout.modules.values()].flatMap((m) => [m.parameters.a, m.parameters.b]);
    for (const { name, arena: place } of starts)
      expect(place!.offsetBytes % (4 * MOMENT_BLOCK), name).toBe(0);
    const { moments } = arena!;
    if (moments.bits !== 8) throw new Error("8 bits were asked for");
    expect(tensorBytes(moments.codes)).toBe(2 * arena!.decayEnd);
    expect(tensorBytes(moments.absmax)).toBe((8 * arena!.decayEnd) / MOMENT_BLOCK);
    // 65 and 300 magnitudes, each on a place of its own.
    expect(moments.magnitudes!.elements).toBe(128 + 320);
    expect(moments.magnitudes!.parameter.arena!.offsetBytes).toBe(4 * arena!.decayEnd);
    expect(arena!.elements).toBe(arena!.decayEnd + 448);
  });
});
