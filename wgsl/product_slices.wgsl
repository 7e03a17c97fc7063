// Forward products of few rows: y = x Wt + p Bt for TOKENS rows of x and COLUMNS columns per workgroup, a column per lane. SLICES lanes
// share a column, each with DEPTH of SLICES * DEPTH terms at a time, so that many weights are on their way at once; their sums are added
// in the end, in order. Every weight is decoded once, in registers. Grid: column tiles, row tiles. Any adapter.
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
const LANES = #{COLUMNS * SLICES}u;
const COLUMNS = #{COLUMNS}u;
const TOKENS = #{TOKENS}u;
#include "product_bindings.wgsl"
#include "product_rows.wgsl"
#if NF4
#include "nf4_levels.wgsl"
var<workgroup> levels: array<f32, 16>;
#endif
#include "product_load_eight.wgsl"
var<workgroup> tile: array<array<vec4f, #{TOKENS * DEPTH / 4}>, #{SLICES}>; // x [SLICES, TOKENS, DEPTH / 4]; then sums [SLICES, COLUMNS, TOKENS / 4]
#if LOWRANK

fn low(t: u32, j: u32) -> f32 {
  var sum = 0.0;
  for (var r = 0u; r < sizes.rank; r++) {
#if B_VEC4
    sum = fma(p[t * sizes.rank + r], b[(j * sizes.rank + r) / 4u][r % 4u], sum);
#else
    sum = fma(p[t * sizes.rank + r], b[j * sizes.rank + r], sum);
#endif
  }
  return sum;
}
#endif

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = wg.y * TOKENS;
  let column0 = wg.x * COLUMNS;
  let column = lane % COLUMNS;
  let slice = lane / COLUMNS;
  let j = min(column0 + column, sizes.M - 1u);
#if NF4
  if (lane < 16u) {
    levels[lane] = NF4_LEVELS[lane];
  }
#endif
#for q in 0..TOKENS / 4
  var sum#{q} = vec4f();
#endfor
  for (var k0 = 0u; k0 < sizes.K; k0 += #{SLICES * DEPTH}u) {
    workgroupBarrier();
#for s in 0..TOKENS * DEPTH / 4 / COLUMNS
    {
      let i = lane + #{s}u * LANES;
      let quad = i % #{SLICES * DEPTH / 4}u;
      let token = i / #{SLICES * DEPTH / 4}u;
      tile[quad / #{DEPTH / 4}u][token * #{DEPTH / 4}u + quad % #{DEPTH / 4}u] = load_x(row0 + token, k0 + quad * 4u);
    }
#endfor
    let k = k0 + slice * #{DEPTH}u;
#if NF4 && ALIGNED && BLOCK % DEPTH == 0
    let scale = block_scale((j * sizes.K + k) / #{BLOCK}u);
#for e in 0..DEPTH / 8
    let word#{e} = load_codes(j, k + #{8 * e}u, sizes.K);
#endfor
#endif
    workgroupBarrier();
#for e in 0..DEPTH / 8
    {
#if NF4 && ALIGNED && BLOCK % DEPTH == 0
      let w = decode_eight(word#{e}) * scale;
#else
      let w = load_eight(j, k + #{8 * e}u, sizes.K);
#endif
#for t in 0..TOKENS
      sum#{t >> 2}[#{t & 3}] += dot(tile[slice][#{t * DEPTH / 4 + 2 * e}u], w[0]) + dot(tile[slice][#{t * DEPTH / 4 + 2 * e + 1}u], w[1]);
#endfor
    }
#endfor
  }
  workgroupBarrier();
#for q in 0..TOKENS / 4
  tile[slice][column * #{TOKENS / 4}u + #{q}u] = sum#{q};
#endfor
  workgroupBarrier();
  if (lane < #{COLUMNS * TOKENS / 4}u) {
    var total = tile[0][lane];
#for s in 1..SLICES
    total += tile[#{s}][lane];
#endfor
    let t = row0 + lane % #{TOKENS / 4}u * 4u;
    let own = column0 + lane / #{TOKENS / 4}u;
#for i in 0..4
    if (own < sizes.M && t + #{i}u < sizes.N) {
#if LOWRANK
      finish(t + #{i}u, own, total[#{i}] + low(t + #{i}u, own));
#else
      finish(t + #{i}u, own, total[#{i}]);
#endif
    }
#endfor
  }
}
