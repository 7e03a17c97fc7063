/** The logits of a sequence's last token as generation makes them: pieces of up to four tokens, then one at a time. */
import type { Gpu } from "../../src/gpu/device.js";
import { generationProgram, generationTensors } from "../../src/model/generation.js";
import { inferenceModel } from "../../src/model/inference.js";
import { loadModel } from "../../src/model/load.js";
import { Executor } from "../../src/program/executor.js";
import { planMemory } from "../../src/program/planner.js";
import { chooseFrom } from "../../src/program/tuner.js";
import { variantsOf } from "../train/golden_gpu.js";
import type { BaseStorage } from "./whole_logits.js";

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

const PIECE = 4;

export interface Decoded {
  /** [vocab] */
  readonly logits: Float32Array;
  /** "kernel/variant" of all calls. */
  readonly ran: readonly string[];
}

export async function decodedLogits(
  folder: string,
  how: BaseStorage,
  row: readonly number[],
  gpu: Gpu,
): Promise<Decoded> {
  const context = row.length;
  const model = await inferenceModel({ model: folder, ...how, positions: context }, undefined);
  const g = generationTensors(model, context, PIECE);
  const program = (N: number, at: number) =>
    N === 1
      ? generationProgram("decode", model, g, { N, capacity: 1, row: at })
      : generationProgram("prefill", model, g, { N, capacity: PIECE, row: at });
  const programs = [program(PIECE, 0), program(1, PIECE)];
  const executor = await Executor.allocate(gpu, planMemory(programs, 1 << 20, [g.tokens]));
  await executor.load(programs, chooseFrom(new Map()));
  await loadModel(folder, model, executor);
  await executor.write(
    g.spans,
    bytesOf(Uint32Array.from({ length: 2 * context }, (_, i) => (i % 2) * context)),
  );
  // Half of the row in pieces, the last of them short.
  const prompt = Math.ceil(context / 2);
  for (let at = 0; at < context;) {
    const N = at < prompt ? Math.min(PIECE, prompt - at) : 1;
    await executor.write(g.tokens, bytesOf(Uint32Array.from(row.slice(at, at + N))));
    await executor.write(g.positions, bytesOf(Uint32Array.from({ length: N }, (_, i) => at + i)));
    await executor.run(program(N, at), { afterUpdate: true });
    at += N;
  }
  const logits = new Float32Array(await executor.read(g.logits));
  const ran = programs.flatMap((p) => variantsOf(executor, p));
  await executor.release();
  return { logits, ran };
}
