import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { f32ToBf16, f32ToF16 } from "../../src/formats/floats.js";
import { readSafetensorsHeader, writeSafetensors } from "../../src/formats/safetensors.js";
import { expectRefusal, f32, FIXTURES, put, rawSafetensors, temporaryFolder } from "./made_files.js";

const INDEX = "model.safetensors.index.json";

/** A folder with an index and files of one 4-value tensor each. */
function sharded(weightMap: Record<string, unknown>, files: Record<string, readonly string[]>): string {
  const folder = temporaryFolder();
  put(folder, INDEX, JSON.stringify({ metadata: { total_size: 32.5 }, weight_map: weightMap }));
  for (const [file, names] of Object.entries(files)) {
    const header = Object.fromEntries(names.map((name, i) => [name, f32(4, 16 * i)]));
    put(folder, file, rawSafetensors(header, 16 * names.length));
  }
  return folder;
}

describe("openCheckpoint", () => {
  it("reads one file, whole tensors and parts of them", async () => {
    const folder = join(FIXTURES, "models/llama");
    const path = join(folder, "model.safetensors");
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.files).toEqual([path]);
    expect(checkpoint.tensors).toEqual((await readSafetensorsHeader(path)).tensors);
    const file = readFileSync(path);
    for (const entry of checkpoint.tensors.values()) {
      const { byteOffset, byteLength } = entry;
      const bytes = file.subarray(byteOffset, byteOffset + byteLength);
      expect(bytes.equals(await checkpoint.read(entry))).toBe(true);
      expect(bytes.subarray(6).equals(await checkpoint.read(entry, 6))).toBe(true);
      expect(bytes.subarray(3, 8).equals(await checkpoint.read(entry, 3, 5))).toBe(true);
      expect((await checkpoint.read(entry, byteLength)).length).toBe(0);
      await expect(checkpoint.read(entry, 1, byteLength)).rejects.toThrow(RangeError);
      await expect(checkpoint.read(entry, -1, 2)).rejects.toThrow(RangeError);
    }
    await checkpoint.close();
    await expect(checkpoint.read([...checkpoint.tensors.values()][0]!)).rejects.toThrow(/is not open/);
  });

  it("reads files by their index", async () => {
    const folder = join(FIXTURES, "models/qwen3");
    const checkpoint = await openCheckpoint(folder);
    const { weight_map: map } = JSON.parse(readFileSync(join(folder, INDEX), "utf8")) as {
      weight_map: Record<string, string>;
    };
    expect(checkpoint.files.length).toBe(4);
    expect([...checkpoint.tensors.keys()].toSorted()).toEqual(Object.keys(map).toSorted());
    for (const [name, file] of Object.entries(map)) {
      const entry = checkpoint.tensors.get(name)!;
      expect(entry.file).toBe(join(folder, file));
      const { byteOffset, byteLength } = entry;
      const bytes = readFileSync(entry.file).subarray(byteOffset, byteOffset + byteLength);
      expect(bytes.equals(await checkpoint.read(entry))).toBe(true);
    }
    await checkpoint.close();
  });

  it("prefers the single file, as transformers does, and keeps what an index leaves out", async () => {
    const both = sharded({ a: "x.safetensors" }, { "x.safetensors": ["a"], "model.safetensors": ["b"] });
    const single = await openCheckpoint(both);
    expect([...single.tensors.keys()]).toEqual(["b"]);
    await single.close();
    const checkpoint = await openCheckpoint(
      sharded({ a: "x.safetensors" }, { "x.safetensors": ["a", "extra"] }),
    );
    expect([...checkpoint.tensors.keys()]).toEqual(["a", "extra"]);
    await checkpoint.close();
  });

  it.each([
    "../x.safetensors",
    "/etc/x.safetensors",
    "sub/x.safetensors",
    "..\\x.safetensors",
    "C:x.safetensors",
    "",
    ".",
    "..",
    "a\0.safetensors",
    7,
    null,
  ])("refuses an index that leads out of its folder: %j", async (file) => {
    const folder = sharded({ a: file }, {});
    put(folder, "x.safetensors", rawSafetensors({ a: f32(4) }, 16));
    await expectRefusal(openCheckpoint(folder), INDEX, /"a" is in .*, which is not a plain file name/);
  });

  it("refuses an index that does not fit its files", async () => {
    await expectRefusal(
      openCheckpoint(sharded({ a: "x.safetensors" }, {})),
      INDEX,
      /names "x.safetensors", which is not beside it/,
    );
    await expectRefusal(
      openCheckpoint(
        sharded(
          { a: "x.safetensors", b: "y.safetensors" },
          { "x.safetensors": ["a", "b"], "y.safetensors": ["c"] },
        ),
      ),
      "y.safetensors",
      /does not hold the tensor "b"/,
    );
    await expectRefusal(
      openCheckpoint(sharded({ a: "x.safetensors", b: "x.safetensors" }, { "x.safetensors": ["a"] })),
      "x.safetensors",
      /does not hold the tensor "b"/,
    );
    await expectRefusal(
      openCheckpoint(
        sharded(
          { a: "x.safetensors", b: "y.safetensors" },
          { "x.safetensors": ["a"], "y.safetensors": ["a", "b"] },
        ),
      ),
      "y.safetensors",
      /holds the tensor "a", which is also in .*x.safetensors/,
    );
    await expectRefusal(
      openCheckpoint(sharded({ a: "pytorch_model.bin" }, {})),
      INDEX,
      /not a safetensors file/,
    );
    await expectRefusal(openCheckpoint(sharded({}, {})), INDEX, /has no weight_map/);
  });

  it("refuses an index that is no index", async () => {
    const folder = temporaryFolder();
    for (const [text, fact] of [
      ["[]", /has no weight_map/],
      ['{"weight_map":["a"]}', /has no weight_map/],
      ['{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', /the key "a" twice/],
      ["{", /is not valid JSON/],
    ] as const) {
      put(folder, INDEX, text);
      await expectRefusal(openCheckpoint(folder), INDEX, fact);
    }
  });

  it("says what to do with folders of other formats", async () => {
    const folder = temporaryFolder();
    await expectRefusal(openCheckpoint(join(folder, "none")), "none", /does not exist/);
    await expectRefusal(openCheckpoint(put(folder, "file", "")), "file", /is not a folder/);
    await expectRefusal(openCheckpoint(folder), folder, /holds neither model.safetensors nor/);
    put(folder, "consolidated.safetensors", rawSafetensors({}));
    await expectRefusal(openCheckpoint(folder), folder, /only "consolidated.safetensors"/);
    put(folder, "pytorch_model.bin", "");
    const error = await expectRefusal(
      openCheckpoint(folder),
      folder,
      /holds "pytorch_model.bin" but no model.safetensors/,
    );
    expect(error.hint).toMatch(/safe_serialization=True/);
  });

  it("refuses files that are folders or FIFOs, and damaged ones, by name", async () => {
    const folder = temporaryFolder();
    execFileSync("mkfifo", [join(folder, "model.safetensors")]);
    await expectRefusal(openCheckpoint(folder), "model.safetensors", /is not a regular file/);
    const other = temporaryFolder();
    mkdirSync(join(other, "model.safetensors"));
    await expectRefusal(openCheckpoint(other), "model.safetensors", /is a folder/);
    const damaged = sharded({ a: "x.safetensors" }, { "x.safetensors": ["a"] });
    truncateSync(join(damaged, "x.safetensors"), 20);
    await expectRefusal(openCheckpoint(damaged), "x.safetensors", /but the file has 20/);
  });

  it("notices a file that becomes shorter while it is open", async () => {
    const folder = temporaryFolder();
    cpSync(join(FIXTURES, "models/llama/model.safetensors"), join(folder, "model.safetensors"));
    const checkpoint = await openCheckpoint(folder);
    const last = [...checkpoint.tensors.values()].toSorted((a, b) => b.byteOffset - a.byteOffset)[0]!;
    truncateSync(last.file, last.byteOffset + 4);
    await expectRefusal(checkpoint.read(last), "model.safetensors", /ends at byte/);
    await checkpoint.close();
  });
});

describe("readAsF32", () => {
  it("widens F32, F16 and BF16, from any element on", async () => {
    const folder = temporaryFolder();
    const values = Float32Array.of(0, -1.5, 3.25, 1024, -0.0078125);
    await writeSafetensors(
      join(folder, "model.safetensors"),
      new Map([
        ["half", { dtype: "F16", shape: [5], data: f32ToF16(values) }],
        ["brain", { dtype: "BF16", shape: [5], data: f32ToBf16(values) }],
        ["full", { dtype: "F32", shape: [1, 5], data: values }],
        ["bytes", { dtype: "U8", shape: [2], data: Uint8Array.of(1, 2) }],
      ] as const),
    );
    const checkpoint = await openCheckpoint(folder);
    for (const name of ["half", "brain", "full"]) {
      const entry = checkpoint.tensors.get(name)!;
      expect(await readAsF32(checkpoint, entry)).toEqual(values);
      expect(await readAsF32(checkpoint, entry, 3)).toEqual(values.slice(3));
      expect(await readAsF32(checkpoint, entry, 1, 3)).toEqual(values.slice(1, 4));
      await expect(readAsF32(checkpoint, entry, 3, 3)).rejects.toThrow(RangeError);
    }
    await expectRefusal(
      readAsF32(checkpoint, checkpoint.tensors.get("bytes")!),
      "model.safetensors",
      /"bytes" has dtype U8/,
    );
    await checkpoint.close();
  });
});
