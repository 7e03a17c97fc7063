// x of RMSNorm by the value (f32) or, QUADS, by four: f32 (X_TYPE 0), bf16 (1) or blocks of four (2, block_float.wgsl).
#if QUADS
alias Value = vec4f;
const WIDTH = 4u;
#if X_TYPE == 0
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [rows, D / 4]
#else
@group(0) @binding(1) var<storage, read> x: array<vec2u>; // [rows, D / 4]
#endif
#if X_TYPE == 2
#include "block_float.wgsl"
#endif
fn x_at(i: u32) -> vec4f {
#if X_TYPE == 2
  return unpack_block(x[i]);
#elif X_TYPE == 1
  return bitcast<vec4f>(vec4u(x[i].x << 16u, x[i].x & 0xffff0000u, x[i].y << 16u, x[i].y & 0xffff0000u));
#else
  return x[i];
#endif
}
fn total(value: vec4f) -> f32 {
  return value.x + value.y + value.z + value.w;
}
#else
alias Value = f32;
const WIDTH = 1u;
#if X_TYPE == 1
@group(0) @binding(1) var<storage, read> x: array<u32>; // [rows, D] two bf16 a word
fn x_at(i: u32) -> f32 {
  return bitcast<f32>(select(x[i / 2u] << 16u, x[i / 2u] & 0xffff0000u, (i & 1u) == 1u));
}
#else
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, D]
fn x_at(i: u32) -> f32 {
  return x[i];
}
#endif
fn total(value: f32) -> f32 {
  return value;
}
#endif
