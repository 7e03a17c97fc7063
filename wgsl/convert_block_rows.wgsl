// y = x, f32 packed to block floating point (PACK) or unpacked from it; four values a lane.
// Any adapter; limited by memory bandwidth.
struct Sizes {
  count: u32, // values, a multiple of 4
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
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
#include "elements.wgsl"
