/** Copies of model folders in which something is broken. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LLAMA, TINY } from "./qdora.js";

/** @param spoil is given the copy */
export function broken(copy: string, from: string, spoil: (folder: string) => void): string {
  mkdirSync(copy);
  for (const file of readdirSync(from)) {
    if (/^(config|generation_config|tokenizer|tokenizer_config)\.json$|^model\.safetensors$/.test(file))
      copyFileSync(join(from, file), join(copy, file));
  }
  spoil(copy);
  return copy;
}

const editJson = (path: string, change: object): void =>
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...change }));
export const editConfig = (change: object) => (model: string) => editJson(join(model, "config.json"), change);
export const editWeights = (edit: (bytes: Buffer) => Buffer) => (model: string) =>
  writeFileSync(join(model, "model.safetensors"), edit(readFileSync(join(LLAMA, "model.safetensors"))));

/** Puts NaN into one element of a tensor. */
export const putNaN = (bytes: Buffer, tensor: string, element: number): Buffer =>
  putValue(bytes, tensor, element, NaN);

/** Puts a value into one element of a tensor of f32. */
export function putValue(bytes: Buffer, tensor: string, element: number, value: number): Buffer {
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  bytes.writeFloatLE(value, 8 + headerBytes + header[tensor]!.data_offsets[0] + 4 * element);
  return bytes;
}

/** The tiny model without its chat template. */
export const withoutTemplate = (folder: string): string =>
  broken(folder, TINY, (model) => editJson(join(model, "tokenizer_config.json"), { chat_template: null }));
