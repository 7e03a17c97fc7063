// statistics[t, h] = lse[t, h] and delta = sum over d of o[t, h, d] d_o[t, h, d], side by side: one binding less in backward.
// STORE: d_o is also packed into blocks of four (block_float.wgsl), as attention reads it, and delta is that of what was stored: only then do the
// gradients of a row's scores add up to zero. One lane per head of a token. Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
#let VEC4 = HEAD_DIM % 4 == 0
const STEPS = #{VEC4 ? HEAD_DIM / 4 : HEAD_DIM}u;
struct Sizes {
  N: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if VEC4
@group(0) @binding(1) var<storage, read> o: array<vec4f>; // [N, HEADS, D / 4]
@group(0) @binding(2) var<storage, read> d_o: array<vec4f>; // [N, HEADS, D / 4]
#else
@group(0) @binding(1) var<storage, read> o: array<f32>; // [N, HEADS, D]
@group(0) @binding(2) var<storage, read> d_o: array<f32>; // [N, HEADS, D]
#endif
@group(0) @binding(3) var<storage, read> lse: array<f32>; // [N, HEADS]
@group(0) @binding(4) var<storage, read_write> statistics: array<vec2f>; // [N, HEADS] lse, delta
#if STORE
@group(0) @binding(5) var<storage, read_write> d_o_stored: array<vec2u>; // [N, HEADS, D / 4] blocks of four
#include "block_float.wgsl"
#include "block_float_pack.wgsl"
#endif

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (wg.y * 32768u + wg.x) * LANES + lane;
  if (row < sizes.N * #{HEADS}u) {
    var sum = 0.0;
    for (var i = row * STEPS; i < (row + 1u) * STEPS; i++) {
#if VEC4
#if STORE
      let stored = pack_block(d_o[i]);
      d_o_stored[i] = stored;
      sum += dot(o[i], unpack_block(stored));
#else
      sum += dot(o[i], d_o[i]);
#endif
#else
      sum += o[i] * d_o[i];
#endif
    }
    statistics[row] = vec2f(lse[row], sum);
  }
}
