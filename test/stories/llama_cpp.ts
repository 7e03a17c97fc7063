/** llama.cpp in a process of its own, for opt-in tests: QDORA_LLAMA_CPP names a folder where `npm install node-llama-cpp` was run. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";

export const LLAMA_CPP = process.env["QDORA_LLAMA_CPP"];

export interface Continued {
  readonly prompt: readonly number[];
  /** New tokens, greedy; the last may end the text. */
  readonly ids: readonly number[];
}

/** @param file a GGUF file */
export function continueByLlamaCpp(
  file: string,
  count: number,
  texts: readonly string[],
): readonly Continued[] {
  const script = join(import.meta.dirname, "llama_cpp.mjs");
  const args = [script, LLAMA_CPP ?? "", file, String(count), JSON.stringify(texts)];
  const output = execFileSync(process.execPath, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return JSON.parse(output) as readonly Continued[];
}
