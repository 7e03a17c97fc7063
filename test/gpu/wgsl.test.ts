import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { expandWgsl, wgslInterface } from "../../src/gpu/wgsl.js";

const folder = fileURLToPath(new URL("../../wgsl/", import.meta.url));
const made: string[] = [];
let count = 0;

/** The preprocessor reads the package's own folder only, so a test file is put there for a moment. */
function source(text: string): string {
  const name = `test-${process.pid}-${count++}.wgsl`;
  writeFileSync(folder + name, text);
  made.push(folder + name);
  return name;
}

afterEach(() => {
  for (const path of made.splice(0)) rmSync(path);
});

it("takes the first branch that holds", () => {
  const file = source("#if A\na\n#elif B > 1\nb\n#else\nc\n#endif\n#if MISSING\nd\n#endif");
  expect(expandWgsl(file, { A: true, B: 2 })).toBe("a");
  expect(expandWgsl(file, { A: false, B: 2 })).toBe("b");
  expect(expandWgsl(file, { B: 1 })).toBe("c");
});

it("unrolls loops, nested and empty ones, with expressions", () => {
  const file = source(
    "#let W = N * 2\n#for i in 0..N\n#for j in i..2\nx#{i}_#{j + W}\n#endfor\n#endfor\n#for k in 0..0\nnever\n#endfor",
  );
  expect(expandWgsl(file, { N: 2 })).toBe("x0_4\nx0_5\nx1_5");
});

it("names file and line of a directive that is wrong", () => {
  expect(() => expandWgsl(source("a\n#for i 0 1\n#endfor"), {})).toThrow(/\.wgsl:2: #for NAME in A\.\.B/);
  expect(() => expandWgsl(source("#if 1\na"), {})).toThrow(/:1: #if without #endif/);
});

it("reads bindings and sizes out of the shader", () => {
  const code = `struct Sizes {\n  N: u32, // rows\n  eps: f32,\n}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;`;
  expect(wgslInterface(code, "f")).toEqual({
    bindings: [
      { name: "sizes", binding: 0, space: "uniform" },
      { name: "x", binding: 2, space: "read" },
      { name: "y", binding: 5, space: "read_write" },
    ],
    sizes: [
      { name: "N", type: "u32" },
      { name: "eps", type: "f32" },
    ],
  });
  expect(() => wgslInterface("struct Sizes {\n a: vec2u,\n}", "f.wgsl")).toThrow(/f\.wgsl: struct Sizes/);
});
