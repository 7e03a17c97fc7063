/** What `qdora doctor` says of matrix units: as they are, where a trial finds them right, and where it does not. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { addDoctor } from "../../src/commands/doctor.js";
import { hasHalfMatrices } from "../../src/kernels/product_matrix.js";
import { useGpu } from "../kernels/harness.js";

/** What the trial finds; undefined: the adapter is opened as a user's is. */
let faults: readonly string[] | undefined;
vi.mock(import("../../src/kernels/trusted_gpu.js"), async (original) => {
  const real = await original();
  const trial = (): Promise<readonly string[]> => Promise.resolve(faults ?? []);
  return {
    ...real,
    openTrusted: (options, say) =>
      real.openTrusted(options, say, faults === undefined ? {} : { trial, onSoftware: true }),
  };
});

const context = useGpu();
const cacheBefore = process.env["QDORA_CACHE"];
const folder = mkdtempSync(join(tmpdir(), "qdora-doctor-"));
beforeAll(() => {
  process.env["QDORA_CACHE"] = folder;
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(join(folder, "tune"), { recursive: true, force: true });
});
afterAll(() => {
  if (cacheBefore === undefined) delete process.env["QDORA_CACHE"];
  else process.env["QDORA_CACHE"] = cacheBefore;
  rmSync(folder, { recursive: true });
});

async function doctor(found: readonly string[] | undefined, ...flags: readonly string[]): Promise<string> {
  faults = found;
  let text = "";
  const write = (chunk: string | Uint8Array): boolean => {
    text += String(chunk);
    return true;
  };
  vi.spyOn(process.stderr, "write").mockImplementation(write);
  vi.spyOn(process.stdout, "write").mockImplementation(write);
  const program = new Command();
  addDoctor(program);
  await program.parseAsync(["node", "qdora", "doctor", ...flags]);
  return text;
}

const lineOf = (text: string): string | undefined => /^matrix units .*$/m.exec(text)?.[0];

it("counts their shapes, and says that they were checked", async ({ skip }) => {
  const { traits } = context.gpu;
  skip(!hasHalfMatrices(traits), "this adapter has no f16 matrices");
  const shapes = `${traits.matrixShapes.length} shapes`;
  expect(lineOf(await doctor([]))).toMatch(
    new RegExp(`^matrix units +${shapes}, checked +.*their numbers are right$`),
  );
  const asUsed = JSON.parse(await doctor(undefined, "--json")) as Record<string, string>;
  expect(asUsed["matrix_units"]).toBe(traits.isSoftware ? shapes : `${shapes}, checked`);
});

it("says that they are not used, and why", async ({ skip }) => {
  skip(!hasHalfMatrices(context.gpu.traits), "this adapter has no f16 matrices");
  const text = await doctor(["product forward (matrix) by 1.9"]);
  expect(lineOf(text)).toMatch(/^matrix units +not used +.*wrong with this driver, as said above$/);
  expect(text).toMatch(
    /^note: the matrix units of .* give wrong numbers with this driver: product forward \(matrix\) by 1\.9 off; plain kernels/m,
  );
});
