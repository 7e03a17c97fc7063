// What both variants of dora_backward bind, and what of a sum is more than rounding.
// ROUNDED: a difference of numbers of which at least y was rounded.
#let ROUNDED = Y_BLOCKS && RESIDUAL
struct Sizes {
  N: u32,
  out: u32,
#if TURNED
  headDim: u32,
  factor: f32, // undoes the table's scale
#endif
#if RANKS
  bAt: u32, // element of gradient at which that of B [out, RANKS] begins
  mAt: u32, // that of m [out]
#endif
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [N, out]
#if Y_BLOCKS
@group(0) @binding(2) var<storage, read> y: array<vec2u>; // [N, out / 4] blocks of four
#else
@group(0) @binding(2) var<storage, read> y: array<f32>; // [N, out]
#endif
#if RESIDUAL_BLOCKS
@group(0) @binding(3) var<storage, read> residual: array<vec2u>; // [N, out / 4] blocks of four
#elif RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [N, out]
#endif
#if SCALE_ONLY
@group(0) @binding(4) var<storage, read> scale_bias: array<f32>; // [out] g
#else
@group(0) @binding(4) var<storage, read> scale_bias: array<vec2f>; // [out] g, bias
#endif
@group(0) @binding(5) var<storage, read> magnitude: array<f32>; // [out]
#if RANKS
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>; // the arena
#if RANKS % 4 == 0
@group(0) @binding(9) var<storage, read> p: array<vec4f>; // [N, RANKS / 4]
#else
@group(0) @binding(9) var<storage, read> p: array<f32>; // [N, RANKS]
#endif
#else
@group(0) @binding(6) var<storage, read_write> magnitude_gradient: array<f32>; // [out]
#endif
#if TURNED
@group(0) @binding(7) var<storage, read> positions: array<u32>; // [N]
@group(0) @binding(8) var<storage, read> table: array<vec2f>; // [positions, headDim / 2] cos, sin
#endif
#if Y_BLOCKS || RESIDUAL_BLOCKS
#include "block_float.wgsl"
#endif

// g and bias of a column.
fn scale_of(j: u32) -> vec2f {
#if SCALE_ONLY
  return vec2f(scale_bias[j], 0.0);
#else
  return scale_bias[j];
#endif
}
#if ROUNDED

// Numbers of the difference were rounded to whole multiples of some such step.
fn step_at(t: u32, j: u32) -> f32 {
  return block_step(y[(t * sizes.out + j) / 4u]);
}

// A sum of dy times such differences: 0 within three standard deviations of what their rounding comes to, which a small m would magnify,
// and nearly itself far beyond. noise: the sum of (dy step)^2; each number is off by step / sqrt(12).
fn resolved(sum: f32, noise: f32) -> f32 {
  let part = sqrt(noise) / abs(sum);
  return select(0.0, sum * max(0.0, 1.0 - #{(9 * 2) / 12} * part * part), sum != 0.0);
}
#endif
