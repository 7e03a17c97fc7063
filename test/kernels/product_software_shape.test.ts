/** Tiles of products on software adapters: what the shader needs of them holds for every call and adapter. */
import { expect, it } from "vitest";
import { PORTABLE_TRAITS, type AdapterTraits } from "../../src/gpu/traits.js";
import { softwareVariant } from "../../src/kernels/product_software.js";
import { backward, forward, type Case } from "./product_calls.js";

const traits = (
  lanes: number,
  maxWorkgroupBytes: number,
  maxWorkgroupInvocations: number,
): AdapterTraits => ({
  ...PORTABLE_TRAITS,
  isSoftware: true,
  subgroupMinSize: lanes,
  subgroupMaxSize: lanes,
  maxWorkgroupBytes,
  maxWorkgroupInvocations,
});
const ADAPTERS = [4, 8, 16].flatMap((lanes) => [traits(lanes, 16_384, 256), traits(lanes, 32_768, 1024)]);
const FORMATS = ["nf4", "nf4 nested", "int8", "bf16", "f32"] as const;
const TOKENS = [1, 2, 8, 9, 24, 33, 65, 100, 256, 300];
const WIDTHS = [64, 192, 576, 1536];

it.each(FORMATS)("fit the shader and the adapter: %s", (format) => {
  for (const N of TOKENS) {
    for (const width of WIDTHS) {
      const c: Case = { format, N, in: width, out: 320 };
      for (const [call, isBackward] of [
        [forward(c).call, false],
        [backward(c).call, true],
      ] as const) {
        for (const adapter of ADAPTERS) {
          expect(softwareVariant.accepts(call, adapter)).toBe(true);
          const d = softwareVariant.defines(call, adapter);
          const [lanes, cols, rows, unroll, S] = ["LANES", "COLS", "ROWS", "UNROLL", "S"].map((name) =>
            Number(d[name]),
          ) as [number, number, number, number, number];
          const isNf4Backward = isBackward && format.startsWith("nf4");
          const what = `${format} N ${N} width ${width} S ${S}: ${JSON.stringify(d)}`;
          expect(lanes % S, what).toBe(0);
          expect(lanes, what).toBeLessThanOrEqual(adapter.maxWorkgroupInvocations);
          expect(rows === 1 || rows % 4 === 0, what).toBe(true);
          expect(unroll, what).toBe(isBackward || format === "f32" ? 4 : 8);
          const blocks = Number(d["BLOCKS"]);
          expect(256 * (rows + blocks), what).toBeLessThanOrEqual(adapter.maxWorkgroupBytes);
          if (isNf4Backward) {
            // A subgroup's columns lie in one block, and their codes are whole words.
            expect(64 % (S * cols), what).toBe(0);
            expect((S * cols) % 8, what).toBe(0);
            expect(blocks, what).toBeGreaterThanOrEqual((lanes * cols) / 64);
          }
          const [x, y] = softwareVariant.grid(call, d);
          const columns = isBackward ? c.in : c.out;
          expect(x * lanes * cols, what).toBeGreaterThanOrEqual(columns);
          expect(y * rows, what).toBeGreaterThanOrEqual(N);
        }
      }
    }
  }
});
