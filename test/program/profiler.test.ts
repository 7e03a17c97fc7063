/** Every call is timed once, in order, by either clock; results, ledger and budget are as without it. */
import { expect, it } from "vitest";
import { callConvertRows } from "../../src/kernels/convert_rows.js";
import { Executor } from "../../src/program/executor.js";
import type { Program } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { Profiler, PROFILER_BYTES, type ProfileClock } from "../../src/program/profiler.js";
import { tensor } from "../../src/program/tensor.js";
import { callDownload, callUpload } from "../../src/program/transfer.js";
import { chooseFrom } from "../../src/program/tuner.js";
import { bytesOf, given, randomF32, useGpu } from "../kernels/harness.js";

const context = useGpu();

/** More calls than one set of queries holds, with transfers in the middle. */
function program(): Program {
  const [x, y] = [given("x", [4, 64]), given("y", [4, 64])];
  const work = tensor("work", [4, 64]);
  const s = { N: 4, width: 64 };
  return {
    name: "many",
    calls: [
      callConvertRows("make", { x, y: work }, s),
      callDownload("away", work, "kept"),
      callUpload("back", work, "kept"),
      ...Array.from({ length: 1100 }, (_, i) => callConvertRows(`copy ${i}`, { x: work, y }, s)),
      { ...callConvertRows("left out", { x: work, y }, s), onlyAfterUpdate: true },
    ],
  };
}

it.each<ProfileClock>(["timestamps", "waits"])("times every call by %s", async (clock) => {
  const { gpu } = context;
  const many = program();
  const plan = planMemory([many], 1 << 20);
  gpu.ledger.budget = gpu.ledger.bytes + plan.totalBytes;
  const { budget } = gpu.ledger;
  const executor = await Executor.allocate(gpu, plan);
  const kept = { bytes: new Uint8Array() };
  executor.host = {
    read: (_name, count) => kept.bytes.subarray(0, count),
    write: (_name, _at, piece) => void (kept.bytes = piece.slice()),
  };
  await executor.load([many], chooseFrom(new Map()));
  const data = bytesOf(randomF32(256, 1));
  await executor.write(given("x", [4, 64]), data);
  const before = gpu.ledger.bytes;
  const profiler = new Profiler(gpu, clock);
  expect(gpu.ledger.bytes - before).toBe(clock === "timestamps" ? PROFILER_BYTES : 0);
  executor.profiler = profiler;
  await executor.run(many);
  executor.profiler = undefined;
  profiler.release();
  expect(gpu.ledger.bytes).toBe(before);
  expect(gpu.ledger.budget).toBe(budget);
  expect(profiler.calls.map((c) => c.label)).toEqual(many.calls.slice(0, -1).map((c) => c.label));
  expect(profiler.calls.every((c) => c.ms >= 0 && c.startMs >= 0)).toBe(true);
  expect(profiler.calls.reduce((sum, c) => sum + c.ms, 0)).toBeGreaterThan(0);
  expect(profiler.calls[1]).toMatchObject({ kernel: "download", variant: "download", bytes: 1024, flops: 0 });
  expect(profiler.calls[2]?.kernel).toBe("upload");
  expect(Buffer.compare(new Uint8Array(await executor.read(given("y", [4, 64]))), data)).toBe(0);
  await executor.release();
  gpu.ledger.budget = undefined;
});
