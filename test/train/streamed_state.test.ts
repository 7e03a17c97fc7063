/**
 * Programs with streamed layers, replayed without a GPU: every call finds in the ring what it is about, whatever passed through
 * before, and what it changes reaches the host before the place is used again.
 */
import { describe, expect, it } from "vitest";
import type { AdapterLayout } from "../../src/adapter/layout.js";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { architectureOf } from "../../src/model/config.js";
import { layerBytesName, scaleBytesName } from "../../src/model/layer_stream.js";
import type { Call, Program } from "../../src/program/kernel.js";
import { tensorBytes, type Tensor } from "../../src/program/tensor.js";
import { defaultChoices, planRun, type PlannedRun } from "../../src/train/memory.js";
import { layoutOf } from "../../src/train/prepare.js";

const ARCH = architectureOf(
  {
    model_type: "llama",
    vocab_size: 500,
    hidden_size: 64,
    num_hidden_layers: 5,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    intermediate_size: 192,
    max_position_embeddings: 4096,
    attention_bias: true,
    tie_word_embeddings: true,
  },
  "five layers with biases",
);

/** Blocks of memory that are looked at as a whole: places in shared buffers start at multiples of it. */
const BLOCK = 256;

interface Block {
  /** Whose bytes these are on the host, and which block of them. */
  readonly host: string;
  readonly block: number;
  readonly isChanged: boolean;
}

const isRing = (t: Tensor): boolean => /^(layer slot \d|gradient slot|scale slot)$/.test(t.arena?.name ?? "");

/** Whose bytes a call of a layer or of the optimizer means by a tensor, and where they start among them. */
function meant({ modules, arenas }: AdapterLayout, t: Tensor): [host: string, bytes: number] {
  const { arena } = t;
  // Several tensors as one begin where the first of them does.
  const name = t.name.replace(/ (and \d+ more|to .*)$/, "");
  if (name.endsWith(" in update")) {
    const own = name.slice(0, -" in update".length);
    const parts = arenas.flatMap(({ moments }) =>
      moments.bits === 8 && moments.magnitudes
        ? [moments.magnitudes.parameter, moments.magnitudes.gradient]
        : [],
    );
    const part = parts.find((one) => one.name === own)?.arena;
    return part ? [part.name, part.offsetBytes] : [own, 0];
  }
  const layer = Number(/model\.layers\.(\d+)\./.exec(name)?.[1]);
  for (const { parameters, gradients } of modules.values())
    for (const own of [...Object.values(parameters), ...Object.values(gradients)] as Tensor[])
      if (own.name === name) return [own.arena?.name ?? "", own.arena?.offsetBytes ?? 0];
  const host = arena?.name === "scale slot" ? scaleBytesName(layer) : layerBytesName(layer);
  return [host, arena?.offsetBytes ?? 0];
}

class Ring {
  readonly wrong: string[] = [];
  readonly #blocks = new Map<string, Block>();
  readonly #layout: AdapterLayout;

  constructor(layout: AdapterLayout) {
    this.#layout = layout;
  }

  run({ calls }: Program, afterUpdate: boolean): void {
    for (const call of calls) if (afterUpdate || !call.onlyAfterUpdate) this.#call(call);
    for (const [place, { isChanged }] of this.#blocks)
      if (isChanged) this.wrong.push(`${place} has not reached the host at the end`);
  }

  #gradients({ label }: Call): Tensor | undefined {
    const layer = Number(/layers\.(\d+)/.exec(label)?.[1]);
    return this.#layout.arenas.find((arena) => arena.layer === layer)?.gradient;
  }

  #call(call: Call): void {
    for (const [binding, t] of Object.entries(call.tensors)) {
      if (!isRing(t)) continue;
      const { transfer } = call.kernel;
      // A pass that adds to several gradients binds their buffer; the layer's own are the first of it.
      const gradients = t.name === "gradient slot as a whole" ? this.#gradients(call) : undefined;
      const [host, from] = transfer
        ? [call.host ?? "", 0]
        : gradients
          ? [gradients.name, 0]
          : meant(this.#layout, t);
      const isWritten = call.kernel.bindings[binding] !== "read" && !transfer;
      for (let at = 0; at < tensorBytes(gradients ?? t); at += BLOCK) {
        const place = `${t.arena?.name} ${(t.arena?.offsetBytes ?? 0) + at}`;
        const now = this.#blocks.get(place);
        const wanted: Block = { host, block: (from + at) / BLOCK, isChanged: isWritten };
        if (transfer === "upload") {
          if (now?.isChanged) this.wrong.push(`${call.label} overwrites ${now.host}`);
        } else if (now?.host !== wanted.host || now.block !== wanted.block)
          this.wrong.push(`${call.label} finds ${now?.host} for ${t.name}`);
        const isChanged = isWritten || (!transfer && now?.isChanged === true);
        this.#blocks.set(place, { ...wanted, isChanged });
      }
    }
  }
}

type Flags = Readonly<Record<string, string | number | boolean>>;

async function planned(flags: Flags): Promise<{
  readonly run: PlannedRun;
  readonly layout: AdapterLayout;
}> {
  const settings = await resolveFinetuneConfig({ rank: 8, ...flags }, undefined, [
    "model",
    "data",
    "output_dir",
  ]);
  const layout = layoutOf(ARCH, settings);
  const shape = {
    arch: ARCH,
    linear: () => ({ format: "nf4", blockSize: 64, doubleQuant: true }) as const,
    table: "bf16",
    head: "bf16",
    layout,
    capacity: 129,
    positions: 129,
    evaluates: true,
  } as const;
  return { run: planRun(shape, defaultChoices(shape, settings)), layout };
}

describe.each(["all", "4", "1"])("stream_layers: %s", (stream_layers) => {
  it.each<Flags>([
    {},
    { optimizer: "adamw8bit" },
    { use_dora: false },
    { gradient_checkpointing: "none" },
    { checkpoint_place: "host", token_chunk: 128 },
    { target_modules: String.raw`.*layers\.[13]\.(self_attn\.q_proj|mlp\.down_proj)` },
    { target_modules: String.raw`.*layers\.(0|4)\..*_proj`, rank_pattern: "layers.4.self_attn.q_proj=3" },
    { target_modules: "v_proj", optimizer: "adamw8bit", rank: 3 },
  ])("%j", async (flags) => {
    const { run, layout } = await planned({ ...flags, stream_layers });
    const [microBatch, optimizer, evaluation] = run.programs as [Program, Program, Program];
    const ring = new Ring(layout);
    // A step of two micro-batches, an evaluation, another step: slots keep what the program before left.
    for (const program of [microBatch, microBatch, optimizer, evaluation, microBatch, optimizer, microBatch])
      ring.run(program, program !== optimizer);
    for (const program of [evaluation, microBatch]) ring.run(program, false);
    expect([...new Set(ring.wrong)]).toEqual([]);
  });
});
