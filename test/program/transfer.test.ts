/** Tensors that go to the host and come back, in order with the work around them. */
import { expect, it } from "vitest";
import { callConvertRows } from "../../src/kernels/convert_rows.js";
import { Executor } from "../../src/program/executor.js";
import type { Program } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { ReferenceMemory, runReference } from "../../src/program/reference.js";
import { rowsOf, tensor } from "../../src/program/tensor.js";
import {
  callDownload,
  callUpload,
  DOWNLOAD_PIECE_BYTES,
  type HostStore,
} from "../../src/program/transfer.js";
import { chooseFrom } from "../../src/program/tuner.js";
import { bytesOf, given, randomF32, useGpu } from "../kernels/harness.js";

const context = useGpu();

class Memory implements HostStore {
  readonly bytes = new Map<string, Uint8Array>();
  read(name: string, count: number, at: number): Uint8Array {
    return (this.bytes.get(name) ?? new Uint8Array()).subarray(at, at + count);
  }
  write(name: string, at: number, piece: Uint8Array, total: number): void {
    if (at === 0) this.bytes.set(name, new Uint8Array(total));
    this.bytes.get(name)?.set(piece, at);
  }
}

it("brings back what it took away, in pieces, although the tensor was overwritten meanwhile", async () => {
  const rows = 3 * (DOWNLOAD_PIECE_BYTES / 256) - 64;
  const [x, other, y] = ["x", "other", "y"].map((name) => given(name, [rows, 64]));
  if (!x || !other || !y) throw new Error("unreachable");
  const work = tensor("work", [rows, 64]);
  const s = { N: rows, width: 64 };
  const program: Program = {
    name: "there and back",
    calls: [
      callConvertRows("make", { x, y: work }, s),
      callDownload("away", work, "kept"),
      callConvertRows("overwrite", { x: other, y: work }, s),
      callUpload("back", work, "kept"),
      callConvertRows("read", { x: work, y }, s),
    ],
  };
  const executor = await Executor.allocate(context.gpu, planMemory([program], 1 << 20));
  executor.host = new Memory();
  await executor.load([program], chooseFrom(new Map()));
  const data = randomF32(rows * 64, 1);
  await executor.write(x, bytesOf(data));
  await executor.run(program);
  expect(Buffer.compare(new Uint8Array(await executor.read(y)), bytesOf(data))).toBe(0);
  await executor.release();
});

it("brings back a part of what it took away", async () => {
  const [x, y] = [given("x", [96, 64]), given("y", [32, 64])];
  const [whole, part] = [tensor("whole", [96, 64]), tensor("part", [32, 64])];
  const program: Program = {
    name: "a part",
    calls: [
      callConvertRows("make", { x, y: whole }, { N: 96, width: 64 }),
      callDownload("away", whole, "kept"),
      callUpload("back", part, "kept", 32 * 256, 64 * 256),
      callConvertRows("read", { x: part, y }, { N: 32, width: 64 }),
    ],
  };
  const executor = await Executor.allocate(context.gpu, planMemory([program], 1 << 20));
  executor.host = new Memory();
  await executor.load([program], chooseFrom(new Map()));
  const data = randomF32(96 * 64, 1);
  await executor.write(x, bytesOf(data));
  await executor.run(program);
  expect(Buffer.compare(new Uint8Array(await executor.read(y)), bytesOf(data.subarray(64 * 64)))).toBe(0);
  await executor.release();
  const memory = new ReferenceMemory();
  memory.load(x, bytesOf(data));
  runReference(program, memory, { afterUpdate: true, host: new Map() });
  expect(memory.bytes(y, 32 * 256)).toEqual(bytesOf(data.subarray(64 * 64)));
});

it("moves the same bytes in the reference, bf16 and views included", () => {
  const memory = new ReferenceMemory();
  const whole = tensor("whole", [256, 2], "bf16");
  const rows = rowsOf(whole, 128, 64);
  memory.load(whole, new Uint8Array(Uint16Array.from({ length: 512 }, (_, i) => i).buffer));
  const host = new Map<string, Uint8Array>();
  const calls = [callDownload("away", rows, "rows"), callUpload("back", rowsOf(whole, 0, 64), "rows")];
  runReference({ name: "p", calls }, memory, { afterUpdate: true, host });
  expect(new Uint16Array(host.get("rows")!.buffer)[0]).toBe(256);
  expect(memory.bytes(whole, 4)).toEqual(memory.bytes(rows, 4));
});
