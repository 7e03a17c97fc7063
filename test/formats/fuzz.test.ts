/** Thousands of broken weight files, the same ones each time: taken ones are exactly what the file says, others are refused by name. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { readBnbNf4, STATE } from "../../src/formats/bitsandbytes.js";
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  readPeftAdapter,
  readPeftConfig,
  writePeftAdapter,
  type PeftConfig,
} from "../../src/formats/peft.js";
import {
  readSafetensorsHeader,
  renderHeader,
  tensorBytes,
  writeSafetensors,
  type SafetensorsHeader,
} from "../../src/formats/safetensors.js";
import { RandomSource } from "../../src/program/random.js";
import { memoryWatch, Tally, takenOrRefused } from "../fuzzing.js";
import { mutateBytes, mutateJson, type Json } from "../mutants.js";
import { f32, FIXTURES, rawSafetensors } from "./made_files.js";

const folder = mkdtempSync(join(tmpdir(), "qdora-fuzz-"));
const checkMemory = memoryWatch();
afterAll(() => {
  rmSync(folder, { recursive: true });
  checkMemory();
});

const PIECES = [
  "{",
  "}",
  "[",
  "]",
  '"',
  ",",
  ":",
  " ",
  "\u0000",
  "\\u0000",
  "-1",
  "1.0",
  "1e3",
  "18446744073709551615",
  "[".repeat(3000),
  '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},',
  '"dtype":"U8",',
  '"shape":[4294967296,4294967296],',
  '"data_offsets":[0,9007199254740992],',
  '"__metadata__":{"a":"b"},',
].map((piece) => Buffer.from(piece));

const HEADER = {
  __metadata__: { format: "pt", note: "é" },
  "model.a": f32(2),
  "model.b": { dtype: "BF16", shape: [2, 3], data_offsets: [8, 20] },
  scalar: { dtype: "F64", shape: [], data_offsets: [20, 28] },
  empty: { dtype: "U8", shape: [0, 7], data_offsets: [28, 28] },
  last: { dtype: "I8", shape: [4], data_offsets: [28, 32] },
};
const DATA_BYTES = 32;
const FIELDS = ["dtype", "shape", "data_offsets", "__metadata__", "model.a"];

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly number[];
}

/** A header that was taken, against the file read in the plainest way. */
function expectExact(bytes: Buffer, { tensors, metadata }: SafetensorsHeader): void {
  const headerBytes = Number(bytes.readBigUInt64LE());
  const { __metadata__: said, ...entries } = JSON.parse(
    bytes.subarray(8, 8 + headerBytes).toString(),
  ) as Record<string, Entry>;
  expect(metadata).toEqual(said ?? {});
  expect([...tensors.keys()]).toEqual(Object.keys(entries));
  let covered = 0;
  for (const [name, { dtype, shape, byteOffset, byteLength }] of tensors) {
    const begin = byteOffset - 8 - headerBytes;
    expect({ dtype, shape, data_offsets: [begin, begin + byteLength] }).toEqual(entries[name]);
    expect(byteLength).toBe(tensorBytes(shape, dtype));
    covered += byteLength;
  }
  expect(covered).toBe(bytes.length - 8 - headerBytes);
}

describe("safetensors headers", () => {
  const path = join(folder, "m.safetensors");
  const tally = new Tally();
  async function read(bytes: Buffer): Promise<void> {
    writeFileSync(path, bytes);
    const outcome = await takenOrRefused(() => readSafetensorsHeader(path), path);
    tally.count(outcome);
    if ("error" in outcome) return;
    expectExact(bytes, outcome.value);
    // Written again, in the order of the data, it says the same.
    const sorted = [...outcome.value.tensors].toSorted(
      ([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength,
    );
    const { metadata } = outcome.value;
    const start = Buffer.from(renderHeader(sorted, metadata));
    const data = bytes.subarray(8 + Number(bytes.readBigUInt64LE()));
    writeFileSync(path, Buffer.concat([start, data]));
    const again = await readSafetensorsHeader(path);
    const shapes = ({ tensors }: SafetensorsHeader) =>
      [...tensors].map(([name, { dtype, shape, byteLength }]) => ({ name, dtype, shape, byteLength }));
    expect(shapes(again).toSorted(byName)).toEqual(shapes(outcome.value).toSorted(byName));
    expect(again.metadata).toEqual(metadata);
  }
  const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
    a.name < b.name ? -1 : 1;

  it("takes or refuses 2,000 files of broken bytes and 2,000 of broken structure", async () => {
    const random = new RandomSource(11, 1);
    const good = rawSafetensors(HEADER, DATA_BYTES);
    for (let i = 0; i < 2000; i++) await read(mutateBytes(good, random, PIECES));
    for (let i = 0; i < 2000; i++) {
      const header = mutateJson(HEADER, random, FIELDS);
      await read(rawSafetensors(JSON.stringify(header), DATA_BYTES - random.nextBelow(2)));
    }
    tally.expectAll(4000, { taken: 100, refused: 3000 });
  });

  it("takes or refuses 1,000 whose header has the right length but broken text", async () => {
    const random = new RandomSource(12, 1);
    const text = Buffer.from(JSON.stringify(HEADER));
    const own = new Tally();
    for (let i = 0; i < 1000; i++) {
      const header = mutateBytes(text, random, PIECES);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(header.length));
      const bytes = Buffer.concat([length, header, Buffer.alloc(DATA_BYTES)]);
      writeFileSync(path, bytes);
      const outcome = await takenOrRefused(() => readSafetensorsHeader(path), path);
      own.count(outcome);
      if ("value" in outcome) expectExact(bytes, outcome.value);
    }
    own.expectAll(1000, { taken: 10, refused: 600 });
  });
});

describe("sharded checkpoints", () => {
  const model = mkdtempSync(join(folder, "sharded-"));
  const index = join(model, "model.safetensors.index.json");
  const shard = (i: number): string => `model-0000${i}-of-00003.safetensors`;
  const weightMap = Object.fromEntries(
    [1, 2, 3].flatMap((i) => [`a${i}`, `b${i}`].map((n) => [n, shard(i)])),
  );
  beforeAll(async () => {
    for (const i of [1, 2, 3]) {
      const tensor = (n: number) => ({ dtype: "F32", shape: [1], data: new Float32Array([n]) }) as const;
      const tensors = new Map([
        [`a${i}`, tensor(i)],
        [`b${i}`, tensor(10 * i)],
      ]);
      await writeSafetensors(join(model, shard(i)), tensors);
    }
  });

  it("takes or refuses 1,500 broken indices", async () => {
    const random = new RandomSource(13, 1);
    const good: Json = { metadata: { total_size: 24 }, weight_map: weightMap };
    const bytes = Buffer.from(JSON.stringify(good));
    const tally = new Tally();
    for (let i = 0; i < 1500; i++) {
      const mutant =
        i % 2 === 0
          ? mutateBytes(bytes, random, PIECES)
          : Buffer.from(JSON.stringify(mutateJson(good, random, ["weight_map", "a1", "b3"])));
      writeFileSync(index, mutant);
      const outcome = await takenOrRefused(() => openCheckpoint(model), model);
      tally.count(outcome);
      if ("error" in outcome) continue;
      const checkpoint = outcome.value;
      try {
        const said = (JSON.parse(mutant.toString()) as { weight_map: Record<string, string> }).weight_map;
        for (const [name, file] of Object.entries(said)) {
          const entry = checkpoint.tensors.get(name);
          expect(entry?.file).toBe(join(model, file));
          if (!entry) continue;
          const number = Number(name.slice(1));
          expect([...(await readAsF32(checkpoint, entry))]).toEqual([
            name.startsWith("a") ? number : 10 * number,
          ]);
        }
      } finally {
        await checkpoint.close();
      }
    }
    tally.expectAll(1500, { taken: 100, refused: 800 });
  });
});

describe("PEFT adapters", () => {
  const adapter = mkdtempSync(join(folder, "adapter-"));
  const configPath = join(adapter, ADAPTER_CONFIG);
  const weightsPath = join(adapter, ADAPTER_WEIGHTS);
  const config = {
    peft_type: "LORA",
    r: 4,
    lora_alpha: 8,
    target_modules: ["q_proj", "v_proj"],
    rank_pattern: { "layers.0.q_proj": 2 },
    use_dora: true,
  } as unknown as PeftConfig;
  const tensors = new Map([
    ["base_model.model.a.lora_A.weight", { shape: [2, 3], data: new Float32Array([1, -2, 3, 4, 5, 6]) }],
    ["base_model.model.a.lora_B.weight", { shape: [2, 2], data: new Float32Array([0, 0.5, 1, 2]) }],
  ]);
  let goodConfig: Buffer;
  let goodWeights: Buffer;
  beforeAll(async () => {
    await writePeftAdapter(adapter, config, tensors);
    goodConfig = readFileSync(configPath);
    goodWeights = readFileSync(weightsPath);
  });

  it("takes or refuses 2,000 broken configs; taken ones are the same when they are written again", async () => {
    const random = new RandomSource(14, 1);
    const good = JSON.parse(goodConfig.toString()) as Json;
    const keys = ["r", "lora_alpha", "alpha_pattern", "layers_to_transform", "init_lora_weights", "bias"];
    const tally = new Tally();
    for (let i = 0; i < 2000; i++) {
      const mutant =
        i % 3 === 0
          ? mutateBytes(goodConfig, random, PIECES)
          : Buffer.from(JSON.stringify(mutateJson(good, random, keys)));
      writeFileSync(configPath, mutant);
      const outcome = await takenOrRefused(() => readPeftConfig(adapter), adapter);
      tally.count(outcome);
      // Writing waits for the disk: not each time.
      if ("error" in outcome || i % 8 !== 0) continue;
      await writePeftAdapter(adapter, outcome.value, new Map());
      expect(await readPeftConfig(adapter)).toMatchObject(
        JSON.parse(JSON.stringify(outcome.value)) as object,
      );
    }
    writeFileSync(configPath, goodConfig);
    tally.expectAll(2000, { taken: 300, refused: 500 });
  });

  it("takes or refuses 1,000 broken weight files; what it takes are finite numbers of the file", async () => {
    const random = new RandomSource(15, 1);
    const tally = new Tally();
    for (let i = 0; i < 1000; i++) {
      const mutant = mutateBytes(goodWeights, random, PIECES);
      writeFileSync(weightsPath, mutant);
      const outcome = await takenOrRefused(() => readPeftAdapter(adapter), adapter);
      tally.count(outcome);
      if ("error" in outcome) continue;
      for (const [, { shape, data }] of outcome.value.tensors) {
        expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
        expect(data.every(Number.isFinite)).toBe(true);
      }
    }
    tally.expectAll(1000, { taken: 30, refused: 600 });
  });
});

describe("NF4 of bitsandbytes", () => {
  it("takes or refuses 600 broken quant_states", async () => {
    const random = new RandomSource(16, 1);
    const source = await openCheckpoint(join(FIXTURES, "nf4/bnb_checkpoint"));
    const stateName = [...source.tensors.keys()].find((name) => name.endsWith(`${STATE}nf4`)) ?? "";
    const weight = stateName.slice(0, -`${STATE}nf4`.length);
    const parts = [...source.tensors.values()].filter(({ name }) => name.startsWith(weight));
    const stored = await Promise.all(
      parts.map(
        async (t) => [t.name, { dtype: t.dtype, shape: t.shape, data: await source.read(t) }] as const,
      ),
    );
    await source.close();
    const bytes = Buffer.from(stored.find(([name]) => name === stateName)?.[1].data ?? []);
    const good = JSON.parse(bytes.toString()) as Json;
    const model = mkdtempSync(join(folder, "nf4-"));
    const tally = new Tally();
    for (let i = 0; i < 600; i++) {
      const data =
        i % 2 === 0
          ? mutateBytes(bytes, random, PIECES)
          : Buffer.from(JSON.stringify(mutateJson(good, random, ["nested_offset", "shape"])));
      const state = { dtype: "U8", shape: [data.length], data } as const;
      await writeSafetensors(join(model, "model.safetensors"), new Map([...stored, [stateName, state]]));
      const checkpoint = await openCheckpoint(model);
      try {
        const outcome = await takenOrRefused(() => readBnbNf4(checkpoint, weight), model);
        tally.count(outcome);
        if ("error" in outcome || !outcome.value) continue;
        const said = JSON.parse(data.toString()) as { shape: number[]; blocksize: number };
        expect(outcome.value).toMatchObject({ shape: said.shape, blockSize: said.blocksize });
        const values = outcome.value.shape[0] * outcome.value.shape[1];
        expect(outcome.value.codes.byteLength).toBe(Math.ceil(values / 2));
      } finally {
        await checkpoint.close();
      }
    }
    tally.expectAll(600, { taken: 20, refused: 300 });
  });
});
