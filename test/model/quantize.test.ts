/** `quantizeModel` against what bitsandbytes and transformers wrote for the same model, and against our own quantise-on-load. */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.js";
import { readSafetensorsHeader } from "../../src/formats/safetensors.js";
import { quantizeModel } from "../../src/model/quantize.js";
import { FIXTURES } from "../fixture_files.js";
import { expectRefusal, temporaryFolder } from "../formats/made_files.js";
import { loadedBytes } from "./loaded_bytes.js";

/** Name -> dtype, shape and bytes of every tensor of a folder. */
async function contents(folder: string): Promise<ReadonlyMap<string, string>> {
  const checkpoint = await openCheckpoint(folder);
  const all = new Map<string, string>();
  for (const name of [...checkpoint.tensors.keys()].toSorted()) {
    const entry = checkpoint.tensors.get(name)!;
    const bytes = Buffer.from(await checkpoint.read(entry)).toString("base64");
    all.set(name, `${entry.dtype} [${entry.shape.join()}] ${bytes}`);
  }
  await checkpoint.close();
  return all;
}

/** The version of transformers is that of whoever wrote the folder. */
const configText = (folder: string): string =>
  readFileSync(join(folder, "config.json"), "utf8").replace(/"transformers_version": "[^"]*"/, "");

describe("quantizeModel", () => {
  for (const [source, golden, doubleQuant] of [
    ["bnb_source", "bnb_checkpoint", true],
    ["bnb_source_f32_single", "bnb_checkpoint_f32_single", false],
  ] as const) {
    it(`writes the tensors and the config of ${golden}, byte for byte`, async () => {
      const out = join(temporaryFolder(), "out");
      const want = join(FIXTURES, "nf4", golden);
      // The fixtures were made on a CPU.
      const made = await quantizeModel(join(FIXTURES, "nf4", source), out, { doubleQuant, rule: "cpu" });
      expect(await contents(out)).toEqual(await contents(want));
      expect(configText(out)).toBe(configText(want));
      const header = await readSafetensorsHeader(join(out, "model.safetensors"));
      expect(header.metadata).toEqual({ format: "pt" });
      expect(made).toMatchObject({ files: ["model.safetensors"], quantized: 7 });
      expect(made.bytes).toBe([...header.tensors.values()].reduce((sum, t) => sum + t.byteLength, 0));
    });
  }

  for (const model of ["llama", "mistral", "qwen2", "qwen3"]) {
    for (const doubleQuant of [true, false]) {
      it(`${model}: loads to the same GPU bytes as the original, double quantisation ${doubleQuant}`, async () => {
        const source = join(FIXTURES, "models", model);
        const out = join(temporaryFolder(), "out");
        const made = await quantizeModel(source, out, { doubleQuant, maxShardBytes: 60_000 });
        expect(made.files.length).toBeGreaterThan(2);
        expect(readdirSync(out).filter((name) => name.endsWith(".safetensors"))).toEqual(made.files);
        const want = await loadedBytes(source, { quant: "nf4", doubleQuant });
        const got = await loadedBytes(out, { quant: "nf4", doubleQuant });
        expect([...got.keys()]).toEqual([...want.keys()]);
        const other = [...got].flatMap(([name, bytes]) =>
          Buffer.compare(bytes, want.get(name)!) === 0 ? [] : [name],
        );
        expect(other).toEqual([]);
      });
    }
  }

  it("keeps an index that names every tensor, and the sum of their bytes", async () => {
    const out = join(temporaryFolder(), "out");
    const made = await quantizeModel(join(FIXTURES, "models/qwen3"), out, {
      doubleQuant: true,
      maxShardBytes: 100_000,
    });
    const index = JSON.parse(readFileSync(join(out, "model.safetensors.index.json"), "utf8")) as {
      metadata: { total_size: number };
      weight_map: Record<string, string>;
    };
    expect(index.metadata.total_size).toBe(made.bytes);
    expect(Object.keys(index.weight_map)).toEqual([...(await contents(out)).keys()]);
  });

  it("leaves nothing behind when it is stopped, or meets a value that is not finite", async () => {
    const folder = temporaryFolder();
    const source = join(FIXTURES, "models/mistral");
    const out = join(folder, "out");
    const controller = new AbortController();
    const stopped = quantizeModel(source, out, {
      doubleQuant: true,
      signal: controller.signal,
      onProgress: (bytes) => bytes > 100_000 && controller.abort(),
    });
    await expect(stopped).rejects.toThrow("aborted");
    expect(readdirSync(folder)).toEqual([]);

    const broken = join(temporaryFolder(), "model");
    cpSync(source, broken, { recursive: true });
    const path = join(broken, "model.safetensors");
    const { tensors } = await readSafetensorsHeader(path);
    const bytes = readFileSync(path);
    bytes.writeUInt16LE(0x7fc0, tensors.get("model.layers.1.mlp.up_proj.weight")!.byteOffset + 2 * 300);
    writeFileSync(path, bytes);
    await expectRefusal(
      quantizeModel(broken, out, { doubleQuant: true }),
      path,
      /model\.layers\.1\.mlp\.up_proj\.weight holds NaN at index 300/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  it("refuses a folder with something in it, its own model and a model that is quantised", async () => {
    const source = join(FIXTURES, "models/llama");
    const folder = temporaryFolder();
    writeFileSync(join(folder, "notes.txt"), "mine");
    const how = { doubleQuant: true };
    expect((await expectRefusal(quantizeModel(source, folder, how), folder, /not empty/)).exitCode).toBe(2);
    await expectRefusal(quantizeModel(source, join(folder, "notes.txt"), how), "notes.txt", /is a file/);
    await expectRefusal(quantizeModel(source, source, how), source, /not empty/);
    const ready = join(FIXTURES, "nf4/bnb_checkpoint");
    await expectRefusal(quantizeModel(ready, join(folder, "out"), how), "config.json", /quantised already/);
    expect(existsSync(join(folder, "out"))).toBe(false);
  });
});
