// What attention reads, packed to block floating point: queries and keys turned by RoPE (see rope.wgsl), values as they are.
// Two blocks of four a lane, the same four of either half of a head; heads of queries, keys, values one after the other.
// Any adapter; limited by memory bandwidth.
struct Sizes {
  N: u32,
  heads: u32,
  kvHeads: u32,
  headDim: u32, // a multiple of 8
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [N]
@group(0) @binding(2) var<storage, read> table: array<vec4f>; // [positions, headDim / 4] twice cos, sin
@group(0) @binding(3) var<storage, read> q: array<vec4f>; // [N, heads * headDim / 4]
@group(0) @binding(4) var<storage, read> k: array<vec4f>; // [N, kvHeads * headDim / 4]
@group(0) @binding(5) var<storage, read> v: array<vec4f>; // [N, kvHeads * headDim / 4]
@group(0) @binding(6) var<storage, read_write> q_stored: array<vec2u>; // [N, heads * headDim / 4] blocks of four
@group(0) @binding(7) var<storage, read_write> k_stored: array<vec2u>; // [N, kvHeads * headDim / 4]
@group(0) @binding(8) var<storage, read_write> v_stored: array<vec2u>; // [N, kvHeads * headDim / 4]
#include "block_float_pack.wgsl"

fn element(index: u32) {
  let half = sizes.headDim / 8u; // blocks
  let all = sizes.heads + 2u * sizes.kvHeads;
  if (index < sizes.N * all * half) {
    let i = index % half;
    let token = index / half / all;
    let head = index / half % all;
    let low = table[(positions[token] * half + i) * 2u];
    let high = table[(positions[token] * half + i) * 2u + 1u];
    let c = vec4f(low.xz, high.xz);
    let s = vec4f(low.yw, high.yw);
    if (head < sizes.heads) {
      let at = (token * sizes.heads + head) * 2u * half + i;
      let x1 = q[at];
      let x2 = q[at + half];
      q_stored[at] = pack_block(x1 * c - x2 * s);
      q_stored[at + half] = pack_block(x2 * c + x1 * s);
    } else if (head < sizes.heads + sizes.kvHeads) {
      let at = (token * sizes.kvHeads + head - sizes.heads) * 2u * half + i;
      let x1 = k[at];
      let x2 = k[at + half];
      k_stored[at] = pack_block(x1 * c - x2 * s);
      k_stored[at + half] = pack_block(x2 * c + x1 * s);
    } else {
      let at = (token * sizes.kvHeads + head - sizes.heads - sizes.kvHeads) * 2u * half + i;
      v_stored[at] = pack_block(v[at]);
      v_stored[at + half] = pack_block(v[at + half]);
    }
  }
}
#include "elements.wgsl"
