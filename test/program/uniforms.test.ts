import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { callCopyRows } from "../../src/kernels/copy_rows.js";
import { generationProgram, generationTensors } from "../../src/model/generation.js";
import { architectureOf } from "../../src/model/config.js";
import { inferenceModel } from "../../src/model/inference.js";
import { evaluationProgram, microBatchProgram } from "../../src/model/programs.js";
import type { Call, Program } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { tensor } from "../../src/program/tensor.js";
import { uniformBytes } from "../../src/program/uniforms.js";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { defaultChoices, planRun } from "../../src/train/memory.js";
import { layoutOf, prepareRun } from "../../src/train/prepare.js";
import { FIXTURES } from "../fixture_files.js";
import { goldenConfig } from "../train/golden_run.js";

const [x, y] = [tensor("x", [4]), tensor("y", [4])];
const call = (N: number): Call => ({
  ...callCopyRows("rows", { x, y }, { N: 1, width: 1, row: 0 }),
  sizes: { N, width: 1 },
});
const FIELDS = [
  { name: "N", type: "u32" },
  { name: "width", type: "f32" },
] as const;

describe("uniformBytes", () => {
  it("writes every place once, from the program's first", () => {
    const program = { name: "p", calls: [call(7), call(9), call(7)] };
    const { first, bytes } = uniformBytes(program, [3, 4, 3], [FIELDS, FIELDS, FIELDS]);
    expect(first).toBe(3);
    expect(bytes.byteLength).toBe(2 * 256);
    const view = new DataView(bytes);
    expect([view.getUint32(0, true), view.getFloat32(4, true), view.getUint32(256, true)]).toEqual([7, 1, 9]);
  });

  it("refuses calls that share a place and differ", () => {
    const program = { name: "p", calls: [call(7), call(9)] };
    expect(() => uniformBytes(program, [0, 0], [FIELDS, FIELDS])).toThrow(/N is not that of the calls/);
  });

  it("lets transfers have a place without sizes", () => {
    const program = { name: "p", calls: [call(7), call(9)] };
    expect(new DataView(uniformBytes(program, [0, 0], [[], FIELDS]).bytes).getUint32(0, true)).toBe(9);
  });

  it("names a size that a call does not have", () => {
    const program = { name: "p", calls: [call(7)] };
    expect(() => uniformBytes(program, [0], [[{ name: "depth", type: "u32" }]])).toThrow(
      /rows\) has no size depth/,
    );
  });
});

/** All sizes of a call as fields. */
const fieldsOf = ({ sizes }: Call) =>
  Object.keys(sizes)
    .toSorted()
    .map((name) => ({ name, type: "f32" }) as const);

describe("calls that share uniforms", () => {
  it.each(["dora_llama", "qdora_qwen2", "qlora_llama"])("agree for every token count: %s", async (name) => {
    const golden = await goldenConfig(join(FIXTURES, "training", name));
    const run = await prepareRun(golden);
    const { capacity, model, stream } = run;
    const rank = [...run.layout.modules.values()][0]?.rank ?? 0;
    // As many tokens as an adapter has ranks: row norms have products of these sizes too.
    const { model: folder, quant, double_quant: doubleQuant } = golden;
    const inference = await inferenceModel(
      { model: folder, quant, doubleQuant, positions: 64 },
      { layout: run.layout, values: new Map() },
    );
    const generation = generationTensors(inference, 64, rank);
    const storage = { ...run.storage, chunk: 64, attention: "bfp16", checkpoint: "bfp16" } as const;
    const trained = (N: number): Program[] => {
      const sizes = { N, capacity, checkpointing: "full", storage } as const;
      return [microBatchProgram(model, stream, sizes), evaluationProgram(model, stream, sizes)];
    };
    const generated = (N: number, row: number): Program[] => [
      generationProgram("prefill", inference, generation, { N, capacity: rank, row }),
      generationProgram("decode", inference, generation, { N: 1, capacity: 1, row }),
    ];
    const places = new Map(
      [trained(capacity), generated(rank, 0)].flatMap((programs) => [...planMemory(programs, 0).uniforms]),
    );
    const programs = Array.from({ length: capacity }, (_, i) => trained(i + 1)).flat();
    for (let N = 1; N <= rank; N++) programs.push(...generated(N, 64 - N));
    for (const program of programs) {
      const own = places.get(program.name) ?? [];
      expect(own).toHaveLength(program.calls.length);
      expect(() => uniformBytes(program, own, program.calls.map(fieldsOf))).not.toThrow();
    }
  });

  it("agree where two rows of heads of one chunk are as many as the head's rows, and as wide", async () => {
    const config = await resolveFinetuneConfig({ rank: 4, token_chunk: 128 }, undefined, [
      "model",
      "data",
      "output_dir",
    ]);
    const arch = architectureOf(
      {
        model_type: "qwen3",
        vocab_size: 100,
        hidden_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 64,
        intermediate_size: 64,
        tie_word_embeddings: true,
      },
      "heads as wide as the model",
    );
    const capacity = 256;
    const shape = {
      arch,
      linear: () => ({ format: "bf16" }) as const,
      table: "bf16",
      head: "bf16",
      layout: layoutOf(arch, config),
      capacity,
      positions: capacity,
      evaluates: false,
    } as const;
    const { model, stream, storage, plan } = planRun(shape, defaultChoices(shape, config));
    for (const N of [1, 100, 129, 255]) {
      const program = microBatchProgram(model, stream, { N, capacity, checkpointing: "full", storage });
      const own = plan.uniforms.get(program.name) ?? [];
      expect(() => uniformBytes(program, own, program.calls.map(fieldsOf))).not.toThrow();
    }
  });
});
