/** metrics.jsonl of a resumed run: no torn line, no line beyond the checkpoint, no step twice. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { mendMetrics } from "../../src/report/metrics_mend.js";

const folder = mkdtempSync(join(tmpdir(), "qdora-metrics-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "metrics.jsonl");

const EVALUATION = '{"step":2,"eval_loss":3,"epoch":1}';
async function mended(text: string, step: number, pending = false): Promise<string> {
  writeFileSync(path, text);
  const lines = await mendMetrics(path, step, pending);
  const left = readFileSync(path, "utf8");
  expect(left).toBe(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return left;
}

describe("mendMetrics", () => {
  const whole = `{"step":1,"loss":4}\n{"step":2,"loss":3.5}\n${EVALUATION}\n`;

  it("leaves a whole file as it is", async () => {
    expect(await mended(whole, 2)).toBe(whole);
  });

  it.each(['{"step":3,"lo', '{"step":3,"loss":2', "{", "\0\0\0", '{"step":3,"loss":2}'])(
    "takes away a last line %j",
    async (torn) => {
      expect(await mended(whole + torn, 2)).toBe(whole);
    },
  );

  it("takes away what came after the checkpoint, and an evaluation that will be made again", async () => {
    expect(await mended(whole, 1)).toBe('{"step":1,"loss":4}\n');
    expect(await mended(whole, 2, true)).toBe(whole.replace(`${EVALUATION}\n`, ""));
  });

  it("keeps each step once", async () => {
    expect(await mended(`${whole}{"step":2,"loss":9}\n`, 2)).toBe(whole);
  });

  it("keeps the rollbacks that the checkpoint knows of, whatever step they went back to", async () => {
    const [one, two] = [1, 2].map((n) => `{"step":2,"rollback":${n},"spike_step":4}\n`);
    writeFileSync(path, `${whole}${one}${two}`);
    await mendMetrics(path, 1, false, 1);
    expect(readFileSync(path, "utf8")).toBe(`{"step":1,"loss":4}\n${one}`);
    expect(await mended(`${whole}${one}`, 2)).toBe(whole);
  });

  it("makes no file where there was none", async () => {
    rmSync(path);
    expect(await mendMetrics(path, 5, false)).toEqual([]);
    expect(existsSync(path)).toBe(false);
  });
});
