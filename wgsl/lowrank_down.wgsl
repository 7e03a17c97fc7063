// p = alpha x w: [N, K] times w, [rank, K] transposed or with COLUMNS [K, rank]. A tile of TOKENS x RANKS results per workgroup, one
// token and four ranks per lane; tiles of x and w go through workgroup memory, DEPTH terms at a time.
// Grid: token tiles, rank tiles. Any adapter.
const TOKENS = #{TOKENS}u;
const RANKS = #{RANKS}u;
const DEPTH = #{DEPTH}u;
const LANES = #{TOKENS * RANKS / 4}u;
#include "lowrank_down_places.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>; // [N, K]
@group(0) @binding(2) var<storage, read> w: array<f32>; // [rank, K], COLUMNS [K, rank]
var<workgroup> x_tile: array<f32, #{TOKENS * (DEPTH + 1)}>; // [TOKENS, DEPTH + 1], padded against bank conflicts
var<workgroup> w_tile: array<vec4f, #{DEPTH * RANKS / 4}>; // [DEPTH, RANKS / 4]

fn load_w(r: u32, k: u32) -> f32 {
  let inside = r < sizes.rank && k < sizes.K;
#if SCALE_ROWS
  return select(0.0, g_of(k) * w[k * sizes.rank + r], inside);
#elif COLUMNS
  return select(0.0, w[k * sizes.rank + r], inside);
#else
  return select(0.0, w[r * sizes.K + k], inside);
#endif
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token0 = wg.x * TOKENS;
  let rank0 = wg.y * RANKS;
  let token = lane / #{RANKS / 4}u;
  let quad = lane % #{RANKS / 4}u;
  var sum = vec4f();
  for (var k0 = 0u; k0 < sizes.K; k0 += DEPTH) {
    workgroupBarrier();
    for (var i = lane; i < TOKENS * DEPTH; i += LANES) {
      let t = token0 + i / DEPTH;
      let k = k0 + i % DEPTH;
      x_tile[i / DEPTH * (DEPTH + 1u) + i % DEPTH] = select(0.0, x[t * sizes.K + k], t < sizes.N && k < sizes.K);
    }
    for (var i = lane; i < #{DEPTH * RANKS / 4}u; i += LANES) {
#if COLUMNS
      let k = k0 + i / #{RANKS / 4}u;
      let r = rank0 + i % #{RANKS / 4}u * 4u;
      w_tile[i] = vec4f(load_w(r, k), load_w(r + 1u, k), load_w(r + 2u, k), load_w(r + 3u, k));
#else
      let k = k0 + i % DEPTH;
      let r = rank0 + i / DEPTH * 4u;
      w_tile[i % DEPTH * #{RANKS / 4}u + i / DEPTH] = vec4f(load_w(r, k), load_w(r + 1u, k), load_w(r + 2u, k), load_w(r + 3u, k));
#endif
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {
      sum = fma(vec4f(x_tile[token * (DEPTH + 1u) + k]), w_tile[k * #{RANKS / 4}u + quad], sum);
    }
  }
  let t = token0 + token;
  if (t < sizes.N) {
#for i in 0..4
    if (rank0 + quad * 4u + #{i}u < sizes.rank) {
      p[place(t, rank0 + quad * 4u + #{i}u)] = sizes.alpha * sum[#{i}];
    }
#endfor
  }
}
