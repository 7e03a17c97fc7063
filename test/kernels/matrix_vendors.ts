/** Adapters with subgroup matrices, for shaders that must be valid without a driver. */
import { PORTABLE_TRAITS, type AdapterTraits, type MatrixShape } from "../../src/gpu/traits.js";

const matrix = (M: number, N: number, K: number): MatrixShape => ({
  componentType: "f16",
  resultComponentType: "f32",
  M,
  N,
  K,
});

/** The adapters that have matrices, as Dawn describes them. */
export const VENDORS: Readonly<Record<string, AdapterTraits>> = Object.fromEntries(
  (
    [
      ["nvidia", 32, 32, [matrix(16, 16, 16), matrix(16, 8, 16), matrix(16, 8, 8)]],
      ["amd", 32, 64, [matrix(16, 16, 16)]],
      ["intel", 8, 32, [matrix(8, 8, 16)]],
      ["intel, second generation", 16, 32, [matrix(8, 16, 16)]],
      ["apple", 4, 64, [matrix(8, 8, 8)]],
    ] as const
  ).map(([name, subgroupMinSize, subgroupMaxSize, matrixShapes]) => [
    name,
    {
      ...PORTABLE_TRAITS,
      vendor: name.split(",")[0] as string,
      features: new Set([
        "shader-f16",
        "subgroups",
        "chromium-experimental-subgroup-matrix",
        ...(name === "apple" ? [] : ["subgroup-size-control"]),
      ]),
      subgroupMinSize,
      subgroupMaxSize,
      matrixShapes,
      maxWorkgroupBytes: 49152,
      maxWorkgroupInvocations: 1024,
    },
  ]),
);

const BYTES: Readonly<Record<string, number>> = {
  f16: 2,
  f32: 4,
  u32: 4,
  "atomic<u32>": 4,
  vec2f: 8,
  vec4f: 16,
};

/**
 * The workgroup variables that move those behind them off multiples of 16 bytes. Matrix loads want such addresses (Vulkan's rule for
 * OpCooperativeMatrixLoadKHR); NVIDIA's driver packs variables as they come and reads elsewhere without a word.
 */
export function misplacing(code: string): readonly string[] {
  const constants = new Map([...code.matchAll(/^const (\w+) = (\d+)u;/gm)].map(([, n, v]) => [n, Number(v)]));
  const bytes = (type: string): number => {
    const array = /^array<(.+), (\w+)>$/.exec(type);
    if (!array) return BYTES[type] ?? NaN;
    const [, element, count] = array as unknown as [string, string, string];
    return bytes(element) * (constants.get(count) ?? Number(count));
  };
  const variables = [...code.matchAll(/^var<workgroup> (\w+): (.+?);/gm)];
  return variables.filter(([, , type]) => bytes(type as string) % 16 !== 0).map(([, name]) => name as string);
}
