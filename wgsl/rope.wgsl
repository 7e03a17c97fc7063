// Rotary embedding of queries and keys in place: (x1, x2) = (x1 cos - x2 sin, x2 cos + x1 sin), sin negated with direction -1; x1 in the
// first half of a head, x2 in the second. One lane per pair, queries' heads before keys'. Any adapter; limited by memory bandwidth.
struct Sizes {
  N: u32,
  heads: u32,
  kvHeads: u32,
  headDim: u32,
  direction: f32, // 1 or -1
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [N]
@group(0) @binding(2) var<storage, read> table: array<vec2f>; // [positions, headDim / 2] cos, sin
@group(0) @binding(3) var<storage, read_write> q: array<f32>; // [N, heads * headDim]
@group(0) @binding(4) var<storage, read_write> k: array<f32>; // [N, kvHeads * headDim]

fn element(pair: u32) {
  let half = sizes.headDim / 2u;
  let all = sizes.heads + sizes.kvHeads;
  if (pair < sizes.N * all * half) {
    let i = pair % half;
    let token = pair / half / all;
    let head = pair / half % all;
    let turn = table[positions[token] * half + i] * vec2f(1.0, sizes.direction);
    if (head < sizes.heads) {
      let at = (token * sizes.heads + head) * sizes.headDim + i;
      let x1 = q[at];
      let x2 = q[at + half];
      q[at] = x1 * turn.x - x2 * turn.y;
      q[at + half] = x2 * turn.x + x1 * turn.y;
    } else {
      let at = (token * sizes.kvHeads + head - sizes.heads) * sizes.headDim + i;
      let x1 = k[at];
      let x2 = k[at + half];
      k[at] = x1 * turn.x - x2 * turn.y;
      k[at + half] = x2 * turn.x + x1 * turn.y;
    }
  }
}
#include "elements.wgsl"
