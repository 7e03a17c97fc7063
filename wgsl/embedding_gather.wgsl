// x[t] = table[tokens[t] - firstRow] for tokens of this part of the table; other rows are zeroed, with ADD left alone.
// One lane per element. Any adapter; limited by memory bandwidth.
struct Sizes {
  N: u32,
  D: u32,
  firstRow: u32,
  rows: u32, // of this part
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if BF16 || F16
@group(0) @binding(1) var<storage, read> values: array<u32>; // [rows * D / 2] two 16-bit floats to a u32
#else
@group(0) @binding(1) var<storage, read> values: array<f32>; // [rows, D]
#endif
@group(0) @binding(2) var<storage, read> tokens: array<u32>; // [N]
@group(0) @binding(3) var<storage, read_write> x: array<f32>; // [N, D]

fn load(at: u32) -> f32 {
#if BF16
  return bitcast<f32>(select(values[at / 2u] << 16u, values[at / 2u] & 0xffff0000u, (at & 1u) == 1u));
#elif F16
  return unpack2x16float(values[at / 2u])[at & 1u];
#else
  return values[at];
#endif
}

fn element(i: u32) {
  if (i < sizes.N * sizes.D) {
    let row = tokens[i / sizes.D] - sizes.firstRow; // wraps for tokens before this part
    if (row < sizes.rows) {
      x[i] = load(row * sizes.D + i % sizes.D);
    }
#if !ADD
    else {
      x[i] = 0.0;
    }
#endif
  }
}
#include "elements.wgsl"
