// Products on any GPU: y = x op(W) + p op(B), a tile of ROWS x COLUMNS results per workgroup, 4 ROW_QUADS x 4 COLUMN_QUADS of
// them per invocation. Tiles of x and W go through workgroup memory, DEPTH terms at a time; W is decoded once per workgroup.
// Grid: column tiles, row tiles. No features needed, at most 256 invocations and 16 KiB. The loop over a tile ends where its terms
// end, a number that compilers do not know: they leave it a loop, and its body is nearly all multiply-adds.
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
const THREAD_COLUMNS = #{THREAD_COLUMNS}u; // invocations side by side
const THREADS = #{THREAD_COLUMNS * THREAD_ROWS}u;
const DEPTH = #{DEPTH}u;
const DEPTH_QUADS = #{DEPTH / 4}u;
const ROWS = #{THREAD_ROWS * ROW_QUADS * 4}u;
const ROW_GROUPS = #{THREAD_ROWS * ROW_QUADS}u; // groups of four rows
const COLUMNS = #{THREAD_COLUMNS * COLUMN_QUADS * 4}u;
const COLUMN_GROUPS = #{THREAD_COLUMNS * COLUMN_QUADS}u;
#include "product_bindings.wgsl"
// Arrays of arrays, so that the bounds checks of an index are shared by four terms, or stay outside the loop.
var<workgroup> x_tile: array<array<array<vec4f, ROW_GROUPS>, 4>, DEPTH_QUADS>; // [DEPTH / 4, 4, ROW_GROUPS] four rows at one depth
var<workgroup> w_tile: array<array<array<vec4f, COLUMN_GROUPS>, 4>, DEPTH_QUADS>; // [DEPTH / 4, 4, COLUMN_GROUPS] four columns at one depth
#if NF4
#include "nf4_levels.wgsl"
var<workgroup> levels: array<f32, 16>;
#endif
#include "product_tile_load.wgsl"

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = wg.y * ROWS;
  let column0 = wg.x * COLUMNS;
  let thread_column = lane % THREAD_COLUMNS;
  let thread_row = lane / THREAD_COLUMNS;
#if NF4
  if (lane < 16u) {
    levels[lane] = NF4_LEVELS[lane];
  }
#endif
#for r in 0..4 * ROW_QUADS
#for c in 0..COLUMN_QUADS
  var sum#{r}_#{c} = vec4f();
#endfor
#endfor
#if LOWRANK
  let low_steps = (sizes.rank + DEPTH - 1u) / DEPTH;
#else
  let low_steps = 0u;
#endif
  let steps = low_steps + (sizes.K + DEPTH - 1u) / DEPTH;
  for (var step = 0u; step < steps; step++) {
    workgroupBarrier();
#if LOWRANK
    var depth: u32;
    if (step < low_steps) {
      stage_low(lane, row0, column0, step * DEPTH);
      depth = sizes.rank - step * DEPTH;
    } else {
      stage(lane, row0, column0, (step - low_steps) * DEPTH);
      depth = sizes.K - (step - low_steps) * DEPTH;
    }
#else
    stage(lane, row0, column0, step * DEPTH);
    let depth = sizes.K - step * DEPTH;
#endif
    workgroupBarrier();
    let quads = (min(DEPTH, depth) + 3u) / 4u;
    for (var k = 0u; k < quads; k++) {
#for u in 0..4
      {
#for c in 0..COLUMN_QUADS
        let w#{c} = w_tile[k][#{u}][thread_column + #{c * THREAD_COLUMNS}u];
#endfor
#for q in 0..ROW_QUADS
        let x#{q} = x_tile[k][#{u}][thread_row + #{q * THREAD_ROWS}u];
#for r in 0..4
#for c in 0..COLUMN_QUADS
        sum#{4 * q + r}_#{c} = fma(vec4f(x#{q}[#{r}]), w#{c}, sum#{4 * q + r}_#{c});
#endfor
#endfor
#endfor
      }
#endfor
    }
  }
#for q in 0..ROW_QUADS
#for r in 0..4
  {
    let row = row0 + (thread_row + #{q * THREAD_ROWS}u) * 4u + #{r}u;
    if (row < sizes.N) {
#for c in 0..COLUMN_QUADS
      {
        let column = column0 + (thread_column + #{c * THREAD_COLUMNS}u) * 4u;
#for i in 0..4
        if (column + #{i}u < sizes.M) {
          finish(row, column + #{i}u, sum#{4 * q + r}_#{c}[#{i}]);
        }
#endfor
      }
#endfor
    }
  }
#endfor
#endfor
}
