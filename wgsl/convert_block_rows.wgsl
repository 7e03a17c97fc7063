// y = x, f32 packed to block floating point (PACK) or unpacked from it; four values a lane.
// Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  count: u32, // values, a multiple of 4
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if PACK
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [count / 4]
@group(0) @binding(2) var<storage, read_write> y: array<vec2u>; // [count / 4] blocks of four

// Rounded to nearest, ties to even, as far as 14 bits go. A block below 2^-96 is zero; one with NaN or infinity stays infinite.
fn pack_block(values: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(values) & vec4u(0x7fffffffu);
  let exponent = max(max(bits.x, bits.y), max(bits.z, bits.w)) >> 23u;
  if (exponent == 255u) {
    return vec2u(0x0004001fu);
  }
  if (exponent < 31u) {
    return vec2u();
  }
  let scaled = round(values * bitcast<f32>((266u - exponent) << 23u));
  let m = bitcast<vec4u>(clamp(vec4i(scaled), vec4i(-8191), vec4i(8191)));
  let e = exponent - 30u;
  return vec2u(
    (m.x << 18u) | ((m.y & 0x3fffu) << 4u) | (e & 15u),
    (m.z << 18u) | ((m.w & 0x3fffu) << 4u) | (e >> 4u),
  );
}
#else
@group(0) @binding(1) var<storage, read> x: array<vec2u>; // [count / 4] blocks of four
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>; // [count / 4]
#include "block_float.wgsl"
#endif

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wg.y * 32768u + wg.x) * LANES + lane;
  if (i < sizes.count / 4u) {
#if PACK
    y[i] = pack_block(x[i]);
#else
    y[i] = unpack_block(x[i]);
#endif
  }
}
