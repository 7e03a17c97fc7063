import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  readSafetensorsHeader,
  writeSafetensors,
  type Dtype,
  type TensorToWrite,
} from "../../src/formats/safetensors.js";
import { expectRefusal, f32, FIXTURES, put, rawSafetensors, temporaryFolder } from "./made_files.js";

describe("readSafetensorsHeader", () => {
  const read = (file: Uint8Array) => readSafetensorsHeader(put(temporaryFolder(), "m.safetensors", file));

  it("reads entries in any order, with empty tensors and scalars", async () => {
    const header = {
      b: f32(2, 4),
      __metadata__: { format: "pt" },
      scalar: { dtype: "BF16", shape: [], data_offsets: [12, 14] },
      none: { dtype: "U8", shape: [0, 3], data_offsets: [4, 4] },
      a: f32(1),
    };
    const file = rawSafetensors(`${JSON.stringify(header)}   `, 14);
    const start = file.length - 14;
    const { tensors, metadata } = await read(file);
    expect(metadata).toEqual({ format: "pt" });
    expect([...tensors.keys()].toSorted()).toEqual(["a", "b", "none", "scalar"]);
    expect(tensors.get("b")).toMatchObject({
      name: "b",
      dtype: "F32",
      shape: [2],
      byteOffset: start + 4,
      byteLength: 8,
    });
    expect(tensors.get("none")).toMatchObject({ byteOffset: start + 4, byteLength: 0 });
    expect(tensors.get("scalar")).toMatchObject({ shape: [], byteLength: 2 });
  });

  it("keeps tensors whose names mean something to JavaScript", async () => {
    const { tensors } = await read(
      rawSafetensors(`{"__proto__":${JSON.stringify(f32(1))},"1":${JSON.stringify(f32(1, 4))}}`, 8),
    );
    expect([...tensors.keys()].toSorted()).toEqual(["1", "__proto__"]);
  });

  const entry = (fields: object) => rawSafetensors({ a: { ...f32(2), ...fields } }, 8);
  it.each<readonly [string, Uint8Array, RegExp]>([
    ["an empty file", Buffer.alloc(0), /has only 0 bytes/],
    ["a file of 5 bytes", Buffer.alloc(5), /has only 5 bytes/],
    ["a header over 100 MB", rawSafetensors("{}", 0, 100_000_001), /100000001 bytes \(limit 100000000\)/],
    ["a header of 2^64 - 1 bytes", rawSafetensors("{}", 0, 2n ** 64n - 1n), /limit 100000000/],
    ["a header longer than the file", rawSafetensors("{}", 3, 6), /would have 6 bytes, but the file has 13/],
    ["a header that is cut", rawSafetensors({ a: f32(2) }).subarray(0, 30), /but the file has 30/],
    ["a header that is no object", rawSafetensors("[1]"), /does not start with \{/],
    ["a header after a space", rawSafetensors(" {}"), /does not start with \{/],
    ["a header that is no JSON", rawSafetensors("{a}"), /is not valid JSON/],
    [
      "a header that is no UTF-8",
      Buffer.concat([rawSafetensors("", 0, 3), Buffer.from([0x7b, 0xff, 0x7d])]),
      /is not UTF-8/,
    ],
    [
      "a doubled tensor",
      rawSafetensors(`{"a":${JSON.stringify(f32(2))},"a":${JSON.stringify(f32(2))}}`, 8),
      /"a" twice/,
    ],
    [
      "a doubled field",
      rawSafetensors('{"a":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]}}', 8),
      /"shape" twice/,
    ],
    ["metadata that are no texts", rawSafetensors({ __metadata__: { a: 1 } }), /__metadata__ is not a map/],
    ["metadata that are no map", rawSafetensors({ __metadata__: "x" }), /__metadata__ is not a map/],
    ["an entry that is no object", rawSafetensors({ a: [1] }), /"a": is described by something/],
    ["an unknown field", entry({ strides: [1] }), /"a": has the unknown field "strides"/],
    ["an unknown dtype", entry({ dtype: "F4" }), /"a": has dtype "F4" \(supported: BOOL,/],
    ["a dtype of Object.prototype", entry({ dtype: "toString" }), /has dtype "toString"/],
    ["no dtype", entry({ dtype: undefined }), /has dtype nothing/],
    ["no shape", entry({ shape: undefined }), /shape is not a list/],
    ["a negative shape", entry({ shape: [-2] }), /shape is not a list/],
    ["a shape of texts", entry({ shape: ["2"] }), /shape is not a list/],
    [
      "a shape of 2.0",
      rawSafetensors('{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', 8),
      /2\.0 where an integer/,
    ],
    ["a shape whose product overflows", entry({ shape: [2 ** 40, 2 ** 40] }), /needs too many/],
    [
      "a product that comes back to 0",
      entry({ shape: [2 ** 40, 2 ** 40, 0], data_offsets: [0, 0] }),
      /needs too many/,
    ],
    ["offsets of one number", entry({ data_offsets: [0] }), /data_offsets are not two/],
    ["offsets of three numbers", entry({ data_offsets: [0, 8, 8] }), /data_offsets are not two/],
    ["a negative offset", entry({ data_offsets: [-8, 0] }), /data_offsets are not two/],
    [
      "an offset beyond 2^53",
      rawSafetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9007199254740993]}}', 8),
      /beyond 2\^53/,
    ],
    ["offsets that run backwards", entry({ data_offsets: [8, 0] }), /\[8, 0\] do not lie in the 8 bytes/],
    ["offsets beyond the data", entry({ data_offsets: [0, 12] }), /\[0, 12\] do not lie in the 8 bytes/],
    ["offsets that do not fit the shape", entry({ shape: [1] }), /span 8 bytes, F32 \[1\] needs 4/],
    ["an overlap", rawSafetensors({ a: f32(2), b: f32(2, 4) }, 12), /"b" overlaps the tensor before it/],
    ["two tensors in one place", rawSafetensors({ a: f32(2), b: f32(2) }, 8), /overlaps/],
    ["a hole", rawSafetensors({ a: f32(1), b: f32(1, 8) }, 12), /"b" leaves a hole of 4 bytes/],
    ["a hole at the start", rawSafetensors({ a: f32(1, 4) }, 8), /"a" leaves a hole of 4 bytes/],
    ["bytes after the last tensor", rawSafetensors({ a: f32(1) }, 5), /has 1 bytes after its last tensor/],
    ["data that are cut", rawSafetensors({ a: f32(2) }, 7), /\[0, 8\] do not lie in the 7 bytes/],
    [
      "a Git LFS pointer",
      Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
      /is a Git LFS pointer/,
    ],
    ["a web page", Buffer.from("<!DOCTYPE html><html></html>"), /is a web page/],
    ["a GGUF file", Buffer.from("GGUF\u0003\0\0\0\0\0\0\0"), /is a GGUF file/],
    ["a zip of torch.save", Buffer.from("PK\u0003\u0004\0\0\b\b\0\0\0\0"), /is a pickle/],
    ["a bare pickle", Buffer.from([0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46]), /is a pickle/],
  ])("refuses %s", async (_, file, fact) => {
    await expectRefusal(read(file), "m.safetensors", fact);
  });

  it("does not open a pickle at all", async () => {
    const path = put(temporaryFolder(), "pytorch_model.bin", rawSafetensors({ a: f32(1) }, 4));
    const error = await expectRefusal(readSafetensorsHeader(path), path, /is a pickle/);
    expect(error.hint).toMatch(/safetensors/);
  });
});

/** The tensors of a file, with their bytes. */
async function wholeFile(path: string) {
  const bytes = readFileSync(path);
  const { tensors, metadata } = await readSafetensorsHeader(path);
  const parsed = new Map<string, TensorToWrite>();
  for (const { name, dtype, shape, byteOffset, byteLength } of tensors.values())
    parsed.set(name, { dtype, shape, data: bytes.subarray(byteOffset, byteOffset + byteLength) });
  return { bytes, parsed, metadata };
}

describe("writeSafetensors", () => {
  const written = readdirSync(FIXTURES, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".safetensors"),
  );

  it("finds the files that Python wrote", () => {
    expect(
      written.filter((name) => name.endsWith("adapter_model.safetensors")).length,
    ).toBeGreaterThanOrEqual(12);
  });

  it.each(written)("gives Python's bytes for %s", async (name) => {
    const { bytes, parsed, metadata } = await wholeFile(join(FIXTURES, name));
    const path = join(temporaryFolder(), "out.safetensors");
    const shuffled = new Map([...parsed].toReversed());
    await writeSafetensors(path, shuffled, Object.keys(metadata).length > 0 ? metadata : undefined);
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it("orders dtypes and escapes names as safetensors 0.8.0 does", async () => {
    const bytesOf: [Dtype, number][] = [
      ["BOOL", 1],
      ["U8", 1],
      ["I8", 1],
      ["F8_E5M2", 1],
      ["F8_E4M3", 1],
      ["I16", 2],
      ["U16", 2],
      ["F16", 2],
      ["BF16", 2],
      ["I32", 4],
      ["U32", 4],
      ["F32", 4],
      ["F64", 8],
      ["I64", 8],
      ["U64", 8],
    ];
    const tensors = new Map<string, TensorToWrite>(
      bytesOf.map(([dtype, size], i) => [
        `t${i}`,
        { dtype, shape: [3], data: new Uint8Array(3 * size).fill(i + 1) },
      ]),
    );
    for (const name of ["\u{1F600}", "\uFF5E", 'a"\\\n\u0001\u007F\u2028/é', "b", "B", "a.10", "a.2"])
      tensors.set(name, { dtype: "F32", shape: [], data: Float32Array.of(1) });
    tensors.set("empty", { dtype: "I64", shape: [0, 4], data: new Uint8Array(0) });
    const path = join(temporaryFolder(), "out.safetensors");
    await writeSafetensors(path, tensors, { format: "pt" });
    // The header that Python's safetensors.serialize wrote for the same tensors.
    const header =
      String.raw`{"__metadata__":{"format":"pt"},"t14":{"dtype":"U64","shape":[3],"data_offsets":[0,24]},"empty":{"dtype":"I64","shape":[0,4],"data_offsets":[24,24]},"t13":{"dtype":"I64","shape":[3],"data_offsets":[24,48]},"t12":{"dtype":"F64","shape":[3],"data_offsets":[48,72]},"B":{"dtype":"F32","shape":[],"data_offsets":[72,76]},"a\"\\\n\u0001DEL_LS/é":{"dtype":"F32","shape":[],"data_offsets":[76,80]},"a.10":{"dtype":"F32","shape":[],"data_offsets":[80,84]},"a.2":{"dtype":"F32","shape":[],"data_offsets":[84,88]},"b":{"dtype":"F32","shape":[],"data_offsets":[88,92]},"t11":{"dtype":"F32","shape":[3],"data_offsets":[92,104]},"～":{"dtype":"F32","shape":[],"data_offsets":[104,108]},"😀":{"dtype":"F32","shape":[],"data_offsets":[108,112]},"t10":{"dtype":"U32","shape":[3],"data_offsets":[112,124]},"t9":{"dtype":"I32","shape":[3],"data_offsets":[124,136]},"t8":{"dtype":"BF16","shape":[3],"data_offsets":[136,142]},"t7":{"dtype":"F16","shape":[3],"data_offsets":[142,148]},"t6":{"dtype":"U16","shape":[3],"data_offsets":[148,154]},"t5":{"dtype":"I16","shape":[3],"data_offsets":[154,160]},"t4":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[160,163]},"t3":{"dtype":"F8_E5M2","shape":[3],"data_offsets":[163,166]},"t2":{"dtype":"I8","shape":[3],"data_offsets":[166,169]},"t1":{"dtype":"U8","shape":[3],"data_offsets":[169,172]},"t0":{"dtype":"BOOL","shape":[3],"data_offsets":[172,175]}}     `.replace(
        "DEL_LS",
        "\u007F\u2028",
      );
    const bytes = readFileSync(path);
    const headerBytes = Buffer.byteLength(header);
    expect(Number(bytes.readBigUInt64LE())).toBe(headerBytes);
    expect(bytes.subarray(8, 8 + headerBytes).toString()).toBe(header);
    const back = await wholeFile(path);
    for (const [name, { data }] of tensors) {
      const stored = back.parsed.get(name)!.data;
      expect(
        Buffer.compare(stored as Uint8Array, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
      ).toBe(0);
    }
  });

  it("writes a file without tensors, and views into larger memory", async () => {
    const folder = temporaryFolder();
    await writeSafetensors(join(folder, "none"), new Map());
    expect(readFileSync(join(folder, "none"))).toEqual(Buffer.from("\b\0\0\0\0\0\0\0{}      "));
    const data = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
    await writeSafetensors(join(folder, "part"), new Map([["a", { dtype: "F32", shape: [2], data }]]));
    const { parsed } = await wholeFile(join(folder, "part"));
    expect(Buffer.from(parsed.get("a")!.data as Uint8Array)).toEqual(
      Buffer.from(Float32Array.of(2, 3).buffer),
    );
  });

  it("does not write data that do not fit their shape", async () => {
    const folder = temporaryFolder();
    const wrong = writeSafetensors(
      join(folder, "x"),
      new Map([["a", { dtype: "F32", shape: [3], data: new Float32Array(2) }]]),
    );
    await expect(wrong).rejects.toThrow("a: 8 bytes of data for F32 [3]");
    expect(readdirSync(folder)).toEqual([]);
  });
});
