// p = alpha x w: [N, K] times w, [rank, K] transposed or with COLUMNS [K, rank]. TOKENS x RANKS results per workgroup, of which the lanes
// share the sum over K: four ranks of all its tokens per lane, and every DEPTH-th vec4 of K. The order of the sums is fixed.
// Grid: token tiles, rank tiles. For real GPUs: few loads wait for one another, and many workgroups have some. Needs K of whole
// vec4, with COLUMNS rank too.
const TOKENS = #{TOKENS}u;
const RANKS = #{RANKS}u;
const QUADS = #{RANKS / 4}u;
const LANES = #{LANES}u;
const DEPTH = #{LANES / (RANKS / 4)}u;
#include "lowrank_down_places.wgsl"
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [N, K / 4]
@group(0) @binding(2) var<storage, read> w: array<vec4f>; // [rank, K / 4], COLUMNS [K, rank / 4]
var<workgroup> sums: array<vec4f, #{TOKENS * LANES / 2}>; // [TOKENS, LANES / 2]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token0 = wg.x * TOKENS;
  let rank0 = wg.y * RANKS + lane % QUADS * 4u;
  let width = sizes.K / 4u;
#for n in 0..TOKENS
  let row#{n} = min(token0 + #{n}u, sizes.N - 1u) * width;
  var sum#{n} = vec4f();
#endfor
#if COLUMNS
  let step = sizes.rank / 4u;
  let quad = min(rank0 / 4u, step - 1u);
#else
#for i in 0..4
  let factor#{i} = min(rank0 + #{i}u, sizes.rank - 1u) * width;
#endfor
#endif
  for (var k = lane / QUADS; k < width; k += DEPTH) {
#for i in 0..4
#if SCALE_ROWS
    let w#{i} = g_of(4u * k + #{i}u) * w[(4u * k + #{i}u) * step + quad];
#elif COLUMNS
    let w#{i} = w[(4u * k + #{i}u) * step + quad];
#else
    let w#{i} = w[factor#{i} + k];
#endif
#endfor
#for n in 0..TOKENS
    let x#{n} = x[row#{n} + k];
#endfor
#for n in 0..TOKENS
#if COLUMNS
#for i in 0..4
    sum#{n} = fma(vec4f(x#{n}[#{i}]), w#{i}, sum#{n});
#endfor
#else
#for i in 0..4
    sum#{n}[#{i}] = fma(x#{n}.w, w#{i}.w, fma(x#{n}.z, w#{i}.z, fma(x#{n}.y, w#{i}.y, fma(x#{n}.x, w#{i}.x, sum#{n}[#{i}]))));
#endfor
#endif
#endfor
  }
#let SUMS = TOKENS
#let LEFT = RANKS / 4
#include "sum_lanes.wgsl"
  if (lane < QUADS) {
#for n in 0..TOKENS
    if (token0 + #{n}u < sizes.N) {
#for i in 0..4
      if (rank0 + #{i}u < sizes.rank) {
        p[place(token0 + #{n}u, rank0 + #{i}u)] = sizes.alpha * sum#{n}[#{i}];
      }
#endfor
    }
#endfor
  }
}
