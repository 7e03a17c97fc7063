// Greedy tokens of llama.cpp: llama_cpp.mjs FOLDER FILE.gguf COUNT 'JSON list of texts' -> JSON [{prompt, ids}] on stdout.
// FOLDER has node_modules/node-llama-cpp, with its prebuilt binaries; the processor computes.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder = "", file = "", count = "", texts = ""] = process.argv.slice(2);
const entry = join(folder, "node_modules/node-llama-cpp/dist/index.js");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);

const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file });
const results = [];
for (const text of JSON.parse(texts)) {
  const context = await model.createContext({ contextSize: 256, threads: 2 });
  // As qdora: special tokens in a text are read as such, and BOS is put before it where the file says so.
  const prompt = model.tokenize(text, true);
  const { bos } = model.tokens;
  if (model.tokens.shouldPrependBosToken && bos !== null && prompt[0] !== bos) prompt.unshift(bos);
  const ids = [];
  for await (const id of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    ids.push(id);
    if (ids.length >= Number(count) || model.isEogToken(id)) break;
  }
  results.push({ prompt, ids });
  await context.dispose();
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
