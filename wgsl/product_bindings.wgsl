// Sizes and bindings that all products share. Forward: K = in, M = out; backward: K = out, M = in, x is dy, y is dx, p is q, b is a
// and with SCALE_ROWS rows of W count g times.
struct Sizes {
  N: u32,
  K: u32,
  M: u32,
  rank: u32,
  xRow: u32,
  xColumn: u32,
  xStride: u32,
  yRow: u32,
  yColumn: u32,
  yStride: u32,
  codesWord: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if X_VEC4
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [rows, xStride / 4]
#else
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, xStride]
#endif
#if NF4
#if CODES_VEC4
@group(0) @binding(2) var<storage, read> codes: array<vec4u>; // [out, in / 32]
#elif CODES_VEC2
@group(0) @binding(2) var<storage, read> codes: array<vec2u>; // [out, in / 16]
#else
@group(0) @binding(2) var<storage, read> codes: array<u32>; // [out, ceil(in / 8)]
#endif
#if DOUBLE
@group(0) @binding(3) var<storage, read> absmax: array<u32>; // bits of 256 map entries, offset, absmax of absmax; at codesWord [blocks / 4] four codes
#else
@group(0) @binding(3) var<storage, read> absmax: array<f32>; // [blocks]
#endif
#elif INT8
#if W_VEC4
@group(0) @binding(2) var<storage, read> codes: array<vec2u>; // [out, in / 8] four signed bytes to a u32
#else
@group(0) @binding(2) var<storage, read> codes: array<u32>; // [out, ceil(in / 4)] four signed bytes to a u32
#endif
@group(0) @binding(3) var<storage, read> absmax: array<f32>; // [out]
#else
#if W_VEC4 && (BF16 || F16)
@group(0) @binding(2) var<storage, read> values: array<vec4u>; // [out, in / 8] two 16-bit floats to a u32
#elif W_VEC4
@group(0) @binding(2) var<storage, read> values: array<vec4f>; // [out, in / 4]
#elif BF16 || F16
@group(0) @binding(2) var<storage, read> values: array<u32>; // [out * in / 2] two 16-bit floats to a u32
#else
@group(0) @binding(2) var<storage, read> values: array<f32>; // [out, in]
#endif
#endif
#if LOWRANK
@group(0) @binding(5) var<storage, read> p: array<f32>; // [N, rank]
#if B_VEC4
@group(0) @binding(6) var<storage, read> b: array<vec4f>; // forward [out, rank / 4], backward [rank, in / 4]
#else
@group(0) @binding(6) var<storage, read> b: array<f32>; // forward [out, rank], backward [rank, in]
#endif
#endif
#include "row_scale.wgsl"
#if SCALE_BIAS && SCALE_ONLY
@group(0) @binding(7) var<storage, read> scale_bias: array<f32>; // [out] g
#elif SCALE_BIAS
@group(0) @binding(7) var<storage, read> scale_bias: array<vec2f>; // [out] g, bias
#endif
#if RESIDUAL
@group(0) @binding(8) var<storage, read> residual: array<f32>; // [N, out]
#endif
@group(0) @binding(9) var<storage, read_write> y: array<f32>; // [rows, yStride]

// One element of the result, with everything that comes after the sums.
fn finish(t: u32, j: u32, sum: f32) {
  store(t, j, scaled(sum, column_scale(j)));
}

fn store(t: u32, j: u32, product: f32) {
  let at = (sizes.yRow + t) * sizes.yStride + sizes.yColumn + j;
  var value = product;
#if RESIDUAL
  value += residual[t * sizes.M + j];
#endif
#if ADD
  value += y[at];
#endif
  y[at] = value;
}

// g and bias of a column.
fn column_scale(j: u32) -> vec2f {
#if SCALE_BIAS && SCALE_ONLY
  return vec2f(scale_bias[j], 0.0);
#elif SCALE_BIAS
  return scale_bias[j];
#else
  return vec2f(1.0, 0.0);
#endif
}

fn scaled(sum: f32, scale: vec2f) -> f32 {
#if SCALE_BIAS && SCALE_ONLY
  return scale.x * sum;
#elif SCALE_BIAS
  return scale.x * sum + scale.y;
#else
  return sum;
#endif
}
#if NF4

// absmax of a block.
fn block_scale(block: u32) -> f32 {
#if DOUBLE
  let code = (absmax[sizes.codesWord + block / 4u] >> (8u * (block % 4u))) & 255u;
  // Blocks past the end, whose products count as zero, must not read codes as floats: 0 * NaN is NaN.
  let outer = min(257u + block / 256u, sizes.codesWord - 1u);
  return bitcast<f32>(absmax[code]) * bitcast<f32>(absmax[outer]) + bitcast<f32>(absmax[256]);
#else
  return absmax[block];
#endif
}
#endif
#if BF16

// Two packed floats, the first in the lower half.
fn unpack(word: u32) -> vec2f {
  return vec2f(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}
#elif F16

// Two packed floats, the first in the lower half.
fn unpack(word: u32) -> vec2f {
  return unpack2x16float(word);
}
#endif
