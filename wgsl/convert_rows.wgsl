// y = x. BLOCKS: f32 packed to block floating point (PACK) or unpacked from it, four values a lane; else f32 packed to bf16 (rounded to
// nearest, ties to even) or unpacked from it, or f32 as it is, two values a lane. Any adapter; limited by memory bandwidth.
struct Sizes {
  count: u32, // values, whole lanes
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if BLOCKS
#if PACK
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [count / 4]
@group(0) @binding(2) var<storage, read_write> y: array<vec2u>; // [count / 4] blocks of four
#include "block_float_pack.wgsl"
#else
@group(0) @binding(1) var<storage, read> x: array<vec2u>; // [count / 4] blocks of four
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>; // [count / 4]
#include "block_float.wgsl"
#endif

fn element(i: u32) {
  if (i < sizes.count / 4u) {
#if PACK
    y[i] = pack_block(x[i]);
#else
    y[i] = unpack_block(x[i]);
#endif
  }
}
#else
#if FROM_BF16
@group(0) @binding(1) var<storage, read> x: array<u32>; // [count / 2] two bf16
#else
@group(0) @binding(1) var<storage, read> x: array<vec2f>; // [count / 2]
#endif
#if TO_BF16
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // [count / 2] two bf16
#else
@group(0) @binding(2) var<storage, read_write> y: array<vec2f>; // [count / 2]
#endif
#if TO_BF16

// The upper half of an f32, rounded to nearest, ties to even; a NaN stays one.
fn bf16(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, (bits >> 16u) | 64u, (bits & 0x7fffffffu) > 0x7f800000u);
}
#endif

fn element(i: u32) {
  if (i < sizes.count / 2u) {
#if FROM_BF16
    let pair = vec2f(bitcast<f32>(x[i] << 16u), bitcast<f32>(x[i] & 0xffff0000u));
#else
    let pair = x[i];
#endif
#if TO_BF16
    y[i] = bf16(pair.x) | (bf16(pair.y) << 16u);
#else
    y[i] = pair;
#endif
  }
}
#endif
#include "elements.wgsl"
