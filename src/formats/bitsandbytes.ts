/**
 * Linear weights that bitsandbytes has quantised to NF4, as `save_pretrained` stores them: `X` (two codes a byte) with
 * `X.absmax`, `X.quant_map`, and a JSON text in the bytes of `X.quant_state.bitsandbytes__nf4`. With double quantisation
 * the block maxima are themselves 8-bit codes, with `X.nested_absmax` and `X.nested_quant_map`.
 */
import { z } from "zod";
import { readAsF32, type Checkpoint } from "./checkpoint.js";
import { QdoraError } from "./error.js";
import { decodeUtf8, parseStrictJson, quoted } from "./json.js";
import type { Dtype, TensorEntry } from "./safetensors.js";

export interface BnbNf4Header {
  /** [out, in] of the weight before quantisation */
  readonly shape: readonly [number, number];
  /** Values per block of the flat weight. */
  readonly blockSize: number;
  readonly doubleQuant: boolean;
}

/** Block maxima of a weight, as they are stored. */
export type BnbAbsmax =
  | {
      readonly doubleQuant: false;
      /** [blocks] f32 */
      readonly absmax: Float32Array;
    }
  | {
      readonly doubleQuant: true;
      /** [blocks] places in `nestedMap` */
      readonly absmaxCodes: Uint8Array;
      /** [ceil(blocks / 256)] f32 */
      readonly nestedAbsmax: Float32Array;
      /** [256] f32 */
      readonly nestedMap: Float32Array;
      /** Added to every restored maximum (f32). */
      readonly offset: number;
    };

/** A weight whose codes are still in the file. */
export type BnbNf4 = BnbNf4Header &
  BnbAbsmax & {
    /** [ceil(out * in / 2), 1] bytes, the first value of a pair in the high nibble */
    readonly codes: TensorEntry;
  };

/** What the name of a quant_state has after the weight's, before "nf4" or "fp4". */
export const STATE = ".quant_state.bitsandbytes__";
const NESTED_BLOCK = 256;
export const MAX_STATE_BYTES = 65536;
const HINT = "qdora reads NF4 made by bitsandbytes; use such a folder, or the model before quantisation";

/** The 16 NF4 levels in f32: the only `quant_map` that the kernels know. */
export const NF4_LEVELS = new Float32Array([
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
]);

const side = z.int().min(1);

const stateSchema = z.strictObject({
  quant_type: z.literal("nf4"),
  blocksize: z.literal([64, 128, 256, 512, 1024, 2048, 4096]),
  dtype: z.enum(["float32", "float16", "bfloat16"]),
  shape: z.tuple([side, side]),
});

const nestedSchema = stateSchema.extend({
  nested_blocksize: z.literal(NESTED_BLOCK),
  nested_dtype: z.literal("float32"),
  nested_offset: z.number(),
});

/**
 * Reads a ready-made NF4 weight but for its codes; with `headerOnly`, only what its JSON text and the file's header say.
 * @param weightName such as `model.layers.0.mlp.up_proj.weight`
 * @returns undefined if the weight is not stored in NF4
 * @throws QdoraError naming file and tensor for another quantisation (fp4, int8), or parts that do not fit each other
 */
export async function readBnbNf4(
  checkpoint: Checkpoint,
  weightName: string,
  options: { readonly headerOnly: true },
): Promise<BnbNf4Header | undefined>;
export async function readBnbNf4(
  checkpoint: Checkpoint,
  weightName: string,
  options?: { readonly headerOnly?: false },
): Promise<BnbNf4 | undefined>;
export async function readBnbNf4(
  checkpoint: Checkpoint,
  weightName: string,
  options?: { readonly headerOnly?: boolean },
): Promise<BnbNf4Header | BnbNf4 | undefined> {
  refuseOtherQuantisation(checkpoint, weightName);
  const stateEntry = checkpoint.tensors.get(`${weightName}${STATE}nf4`);
  if (!stateEntry) return undefined;
  const state = await readState(checkpoint, stateEntry);
  const [rows, columns] = state.shape;
  const values = rows * columns;
  const blocks = Math.ceil(values / state.blocksize);
  const header = { shape: state.shape, blockSize: state.blocksize };
  const part = (suffix: string, dtype: Dtype, shape: readonly number[]): TensorEntry =>
    findPart(checkpoint, stateEntry.file, `${weightName}${suffix}`, dtype, shape);

  const codes = part("", "U8", [Math.ceil(values / 2), 1]);
  const quantMap = part(".quant_map", "F32", [16]);
  if ("nested_offset" in state) {
    const absmax = part(".absmax", "U8", [blocks]);
    const nestedAbsmax = part(".nested_absmax", "F32", [Math.ceil(blocks / NESTED_BLOCK)]);
    const nestedMap = part(".nested_quant_map", "F32", [256]);
    if (options?.headerOnly) return { ...header, doubleQuant: true };
    await checkLevels(checkpoint, quantMap);
    return {
      ...header,
      doubleQuant: true,
      codes,
      absmaxCodes: await checkpoint.read(absmax),
      nestedAbsmax: await readNumbers(checkpoint, nestedAbsmax, 0),
      nestedMap: await readNumbers(checkpoint, nestedMap, -1),
      offset: Math.fround(state.nested_offset),
    };
  }
  const absmax = part(".absmax", "F32", [blocks]);
  if (options?.headerOnly) return { ...header, doubleQuant: false };
  await checkLevels(checkpoint, quantMap);
  return { ...header, doubleQuant: false, codes, absmax: await readNumbers(checkpoint, absmax, 0) };
}

function refuseOtherQuantisation({ tensors }: Checkpoint, weightName: string): void {
  const fp4 = tensors.get(`${weightName}${STATE}fp4`);
  if (fp4) throw new QdoraError(fp4.file, `${quoted(weightName)} is quantised to FP4`, HINT);
  const int8 = tensors.get(weightName.replace(/weight$/, "SCB"));
  if (int8 && tensors.get(weightName)?.dtype === "I8")
    throw new QdoraError(int8.file, `${quoted(weightName)} is quantised to 8 bits (LLM.int8)`, HINT);
}

/** The JSON text that bitsandbytes keeps in the bytes of a tensor. */
async function readState(
  checkpoint: Checkpoint,
  entry: TensorEntry,
): Promise<z.infer<typeof stateSchema | typeof nestedSchema>> {
  const where = `${entry.file}: ${entry.name}`;
  if (entry.dtype !== "U8" || entry.shape.length !== 1 || entry.byteLength > MAX_STATE_BYTES)
    throw new QdoraError(
      where,
      `is ${entry.dtype} [${entry.shape.join(", ")}], not a short text in bytes`,
      HINT,
    );
  const json = parseStrictJson(decodeUtf8(await checkpoint.read(entry), where), where, "any");
  const isNested =
    typeof json === "object" && json !== null && Object.keys(json).some((key) => key.startsWith("nested_"));
  const parsed = (isNested ? nestedSchema : stateSchema).safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new QdoraError(where, `${issue?.path.join(".") || "quant_state"}: ${issue?.message}`, HINT);
  }
  return parsed.data;
}

function findPart(
  { tensors }: Checkpoint,
  file: string,
  name: string,
  dtype: Dtype,
  shape: readonly number[],
): TensorEntry {
  const entry = tensors.get(name);
  if (!entry)
    throw new QdoraError(file, `${quoted(name)} is missing, though the weight's quant_state is there`, HINT);
  if (entry.dtype !== dtype || entry.shape.join() !== shape.join())
    throw new QdoraError(
      entry.file,
      `${quoted(name)} is ${entry.dtype} [${entry.shape.join(", ")}], its quant_state needs ${dtype} [${shape.join(", ")}]`,
      HINT,
    );
  return entry;
}

/** Finite numbers of at least `least`. */
async function readNumbers(checkpoint: Checkpoint, entry: TensorEntry, least: number): Promise<Float32Array> {
  const values = await readAsF32(checkpoint, entry);
  const bad = values.findIndex((v) => !(v >= least && v < Infinity));
  if (bad >= 0)
    throw new QdoraError(
      entry.file,
      `${quoted(entry.name)} holds ${values[bad]} at index ${bad}`,
      "the file is damaged; download it again",
    );
  return values;
}

async function checkLevels(checkpoint: Checkpoint, entry: TensorEntry): Promise<void> {
  if (Buffer.compare(await checkpoint.read(entry), new Uint8Array(NF4_LEVELS.buffer)) !== 0)
    throw new QdoraError(entry.file, `${quoted(entry.name)} does not hold the 16 levels of NF4`, HINT);
}
