/** The parts of an NF4 weight under the names, shapes and texts with which bitsandbytes serialises them. */
import { NF4_LEVELS, STATE, type BnbAbsmax } from "./bitsandbytes.js";
import type { PlannedTensor } from "./safetensors_stream.js";

const NESTED_BLOCK = 256;

/** More than the text of a quant_state can need: numbers of at most 24 characters in 130 of fixed text. */
export const MAX_STATE_BYTES = 256;

const TORCH_DTYPES: Readonly<Record<string, string>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** The tensor that holds the JSON text of a weight. */
export const stateName = (weightName: string): string => `${weightName}${STATE}nf4`;

/** Names and shapes of all parts of a weight but its quant_state, whose length depends on the values. */
export function bnbParts(
  weightName: string,
  weight: { readonly out: number; readonly in: number; readonly blockSize: number },
  doubleQuant: boolean,
): ReadonlyMap<string, PlannedTensor> {
  const values = weight.out * weight.in;
  const blocks = Math.ceil(values / weight.blockSize);
  const parts: [string, PlannedTensor][] = [
    [weightName, { dtype: "U8", shape: [Math.ceil(values / 2), 1] }],
    [`${weightName}.absmax`, { dtype: doubleQuant ? "U8" : "F32", shape: [blocks] }],
    [`${weightName}.quant_map`, { dtype: "F32", shape: [16] }],
  ];
  if (doubleQuant) {
    const nested = Math.ceil(blocks / NESTED_BLOCK);
    parts.push([`${weightName}.nested_absmax`, { dtype: "F32", shape: [nested] }]);
    parts.push([`${weightName}.nested_quant_map`, { dtype: "F32", shape: [256] }]);
  }
  return new Map(parts);
}

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** The bytes of those parts that are not the codes. */
export function bnbStatistics(weightName: string, absmax: BnbAbsmax): ReadonlyMap<string, Uint8Array> {
  const parts = new Map([[`${weightName}.quant_map`, bytesOf(NF4_LEVELS)]]);
  if (absmax.doubleQuant) {
    parts.set(`${weightName}.absmax`, absmax.absmaxCodes);
    parts.set(`${weightName}.nested_absmax`, bytesOf(absmax.nestedAbsmax));
    parts.set(`${weightName}.nested_quant_map`, bytesOf(absmax.nestedMap));
  } else parts.set(`${weightName}.absmax`, bytesOf(absmax.absmax));
  return parts;
}

/** A number as Python's `repr` writes it: JavaScript's digits, other rules for the exponent. */
function pythonFloat(value: number): string {
  const [digits = "", exponent = "0"] = value.toExponential().split("e");
  const e = Number(exponent);
  if (value !== 0 && (e < -4 || e >= 16))
    return `${digits}e${e < 0 ? "-" : "+"}${String(Math.abs(e)).padStart(2, "0")}`;
  const plain = String(value);
  return plain.includes(".") ? plain : `${plain}.0`;
}

/**
 * The JSON text of a quant_state, as Python's `json.dumps` writes it.
 * @param storedDtype safetensors' name of the dtype before quantisation
 */
export function quantStateText(
  weight: {
    readonly out: number;
    readonly in: number;
    readonly blockSize: number;
    readonly storedDtype: string;
  },
  absmax: BnbAbsmax,
): Uint8Array {
  const fields = [
    `"quant_type": "nf4"`,
    `"blocksize": ${weight.blockSize}`,
    `"dtype": "${TORCH_DTYPES[weight.storedDtype] ?? weight.storedDtype}"`,
    `"shape": [${weight.out}, ${weight.in}]`,
  ];
  if (absmax.doubleQuant)
    fields.push(
      `"nested_blocksize": ${NESTED_BLOCK}`,
      `"nested_dtype": "float32"`,
      `"nested_offset": ${pythonFloat(absmax.offset)}`,
    );
  return new TextEncoder().encode(`{${fields.join(", ")}}`);
}

/** The JSON text of config.json's `quantization_config`, as transformers' BitsAndBytesConfig writes it. */
export const quantizationConfigText = (doubleQuant: boolean): string => `{
  "_load_in_4bit": true,
  "_load_in_8bit": false,
  "bnb_4bit_compute_dtype": "float32",
  "bnb_4bit_quant_storage": "uint8",
  "bnb_4bit_quant_type": "nf4",
  "bnb_4bit_use_double_quant": ${doubleQuant},
  "llm_int8_enable_fp32_cpu_offload": false,
  "llm_int8_has_fp16_weight": false,
  "llm_int8_skip_modules": null,
  "llm_int8_threshold": 6.0,
  "load_in_4bit": true,
  "load_in_8bit": false,
  "quant_method": "bitsandbytes"
}`;
