/**
 * Writes a model folder again as bitsandbytes does on a CPU: NF4 with double quantisation by the CPU rule. qdora itself follows the CUDA
 * rule, the golden data was made on a CPU; through such a folder both can be compared to the last digits.
 */
import { cp, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { writeSafetensors, type TensorToWrite } from "../../src/formats/safetensors.js";
import { readArchitecture } from "../../src/model/config.js";
import { allModules } from "../../src/model/modules.js";
import { quantizeAbsmax } from "../../src/quant/double.js";
import { DYNAMIC_MAP } from "../../src/quant/dynamic.js";
import { NF4_TABLE, quantizeNf4 } from "../../src/quant/nf4.js";

const BLOCK = 64;

/** @returns the new folder, in the system's temporary folder */
export async function readyMadeNf4(source: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "qdora-nf4-"));
  const linear = new Set(allModules(await readArchitecture(source)).map((m) => `${m.path}.weight`));
  const checkpoint = await openCheckpoint(source);
  const tensors = new Map<string, TensorToWrite>();
  for (const entry of checkpoint.tensors.values()) {
    const { name, shape } = entry;
    if (!linear.has(name)) {
      tensors.set(name, { dtype: entry.dtype, shape, data: await checkpoint.read(entry) });
      continue;
    }
    const { codes, absmax } = quantizeNf4(await readAsF32(checkpoint, entry), BLOCK);
    const double = quantizeAbsmax(absmax, "cpu");
    const state = new TextEncoder().encode(
      JSON.stringify({
        quant_type: "nf4",
        blocksize: BLOCK,
        dtype: "float32",
        shape,
        nested_blocksize: 256,
        nested_dtype: "float32",
        nested_offset: double.offset,
      }),
    );
    tensors.set(name, { dtype: "U8", shape: [codes.length, 1], data: codes });
    tensors.set(`${name}.absmax`, { dtype: "U8", shape: [double.codes.length], data: double.codes });
    tensors.set(`${name}.quant_map`, { dtype: "F32", shape: [16], data: NF4_TABLE });
    tensors.set(`${name}.nested_absmax`, {
      dtype: "F32",
      shape: [double.nestedAbsmax.length],
      data: double.nestedAbsmax,
    });
    tensors.set(`${name}.nested_quant_map`, { dtype: "F32", shape: [256], data: DYNAMIC_MAP });
    tensors.set(`${name}.quant_state.bitsandbytes__nf4`, { dtype: "U8", shape: [state.length], data: state });
  }
  await checkpoint.close();
  await writeSafetensors(join(folder, "model.safetensors"), tensors, { format: "pt" });
  const config = JSON.parse(await readFile(join(source, "config.json"), "utf8")) as Record<string, unknown>;
  const quantization = {
    quant_method: "bitsandbytes",
    load_in_4bit: true,
    bnb_4bit_quant_type: "nf4",
    bnb_4bit_use_double_quant: true,
  };
  await writeFile(
    join(folder, "config.json"),
    JSON.stringify({ ...config, quantization_config: quantization }),
  );
  for (const file of ["tokenizer.json", "tokenizer_config.json"])
    await cp(join(source, file), join(folder, file)).catch(() => undefined);
  return folder;
}
