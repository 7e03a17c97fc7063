// Products forward of a few tokens on any GPU: y = x Wt + p Bt, ROWS <= 4 tokens. LANES_K lanes along K share four columns, so
// that a weight is read once and neighbouring lanes read neighbouring words; then a reduction in workgroup memory.
// Grid: groups of COLUMNS columns, folded (grid1d). No features, 64 invocations, at most 4 KiB.
const LANES_K = #{LANES_K}u;
const COLUMNS = #{4 * LANES / LANES_K}u;
const ROWS = #{ROWS}u;
#include "product_bindings.wgsl"
#include "product_rows.wgsl"
var<workgroup> partial: array<vec4f, #{LANES * ROWS}>; // [LANES, ROWS] four columns
#if NF4
#include "nf4_levels.wgsl"
var<workgroup> levels: array<f32, 16>;
#endif
#include "product_load_eight.wgsl"

@compute @workgroup_size(#{LANES})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_column = (wg.y * 32768u + wg.x) * COLUMNS;
  let lane_k = lane % LANES_K;
  // Columns past M repeat the last one and are not stored.
#for c in 0..4
  let column#{c} = min(first_column + lane / LANES_K * 4u + #{c}u, sizes.M - 1u);
#endfor
#if NF4
  if (lane < 16u) {
    levels[lane] = NF4_LEVELS[lane];
  }
  workgroupBarrier();
#endif
#for r in 0..ROWS
  var sum#{r} = vec4f();
#endfor
#if LOWRANK
  for (var i = lane_k; i < sizes.rank; i += LANES_K) {
    let w = vec4f(
      b[column0 * sizes.rank + i], b[column1 * sizes.rank + i], b[column2 * sizes.rank + i], b[column3 * sizes.rank + i]);
#for r in 0..ROWS
    sum#{r} += p[min(#{r}u, sizes.N - 1u) * sizes.rank + i] * w;
#endfor
  }
#endif
  for (var k = lane_k * 8u; k < sizes.K; k += LANES_K * 8u) {
#for c in 0..4
    let w#{c} = load_eight(column#{c}, k, sizes.K);
#endfor
#for r in 0..ROWS
    {
      let low = load_x(#{r}u, k);
      let high = load_x(#{r}u, k + 4u);
      sum#{r} += vec4f(
#for c in 0..4
        dot(low, w#{c}[0]) + dot(high, w#{c}[1]),
#endfor
      );
    }
#endfor
  }
#for r in 0..ROWS
  partial[lane * ROWS + #{r}u] = sum#{r};
#endfor
#for s in 0..Math.log2(LANES_K)
  workgroupBarrier();
  if (lane_k < #{LANES_K >> (s + 1)}u) {
#for r in 0..ROWS
    partial[lane * ROWS + #{r}u] += partial[(lane + #{LANES_K >> (s + 1)}u) * ROWS + #{r}u];
#endfor
  }
#endfor
  workgroupBarrier();
  // Results of the workgroup, columns side by side: one per invocation.
  let column = first_column + lane % COLUMNS;
  let row = lane / COLUMNS;
  if (row < sizes.N && column < sizes.M) {
    finish(row, column, partial[lane % COLUMNS / 4u * LANES_K * ROWS + row][lane % 4u]);
  }
}
