// Products through subgroup matrices: y = x op(W) + p op(B), f16 inputs, f32 sums. A tile of ROWS x COLUMNS results per workgroup;
// each of SUBGROUPS_M x SUBGROUPS_N subgroups holds TM x TN result matrices. Both operands are converted while they are staged into
// workgroup memory, terms side by side (the layout that every vendor's matrix loads want), DEPTH terms at a time.
// A row of x is scaled by a power of two that brings its largest value near 2^14, found in a first pass over the row: no value
// overflows, and only those below 2^-28 of the row's largest lose bits. B has such a scale per column tile, and p the opposite one.
// Weights must lie within f16's range. Grid: column tiles, row tiles.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#let SUBGROUPS = SUBGROUPS_M * SUBGROUPS_N
#let LANES = LANES_PER_SUBGROUP * SUBGROUPS
#let ROWS = SUBGROUPS_M * TM * MATRIX_M
#let COLUMNS = SUBGROUPS_N * TN * MATRIX_N
#let STEP = LANES * 4 / DEPTH
#let EIGHTS = COLUMNS * DEPTH / 8 / LANES
#let ROW_LANES = MATRIX_N
#let ROWS_EACH = MATRIX_M * MATRIX_N / LANES_PER_SUBGROUP
const LANES = #{LANES}u;
const ROWS = #{ROWS}u;
const COLUMNS = #{COLUMNS}u;
const DEPTH = #{DEPTH}u;
const STRIDE = #{DEPTH + PAD}u; // of a tile's row, padded against bank conflicts
#include "product_bindings.wgsl"
#include "product_rows.wgsl"
var<workgroup> x_tile: array<f16, #{ROWS * (DEPTH + PAD)}>; // [ROWS, STRIDE]
var<workgroup> w_tile: array<f16, #{COLUMNS * (DEPTH + PAD)}>; // [COLUMNS, STRIDE]
var<workgroup> row_max: array<atomic<u32>, ROWS>; // bits of the largest magnitude of a row
var<workgroup> results: array<f32, #{SUBGROUPS * MATRIX_M * MATRIX_N}>; // one matrix per subgroup
#if LOWRANK
var<workgroup> b_max: atomic<u32>; // bits of the largest magnitude of the column tile of B
#endif
#if NF4
#include "nf4_levels.wgsl"
var<workgroup> levels: array<f32, 16>;
#endif
#include "product_load_eight.wgsl"
#include "product_matrix_stage.wgsl"

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
  let row0 = wg.y * ROWS;
  let column0 = wg.x * COLUMNS;
#if NF4
  if (lane < 16u) {
    levels[lane] = NF4_LEVELS[lane];
  }
#endif
#for s in 0..Math.ceil(ROWS / LANES)
  if (lane + #{s * LANES}u < ROWS) {
    atomicStore(&row_max[lane + #{s * LANES}u], 0u);
  }
#endfor
#if LOWRANK
  if (lane == 0u) {
    atomicStore(&b_max, 0u);
  }
  workgroupBarrier();
  find_b_max(lane, column0);
  workgroupBarrier();
  let b_field = scale_field(atomicLoad(&b_max), 1u);
#else
  workgroupBarrier();
  let b_field = 127u;
#endif
  find_row_max(lane, row0, b_field);
  workgroupBarrier();
#for s in 0..ROWS / STEP
  let scale#{s} = power_of_two(scale_field(atomicLoad(&row_max[lane / #{DEPTH / 4}u + #{s * STEP}u]), 14u));
#endfor
  let x_first = subgroup / #{SUBGROUPS_N}u * #{TM * MATRIX_M * (DEPTH + PAD)}u;
  let w_first = subgroup % #{SUBGROUPS_N}u * #{TN * MATRIX_N * (DEPTH + PAD)}u;
#for m in 0..TM
#for n in 0..TN
  var sum#{m}_#{n}: subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>;
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
    let is_low = step < low_steps;
    let k0 = select(step - low_steps, step, is_low) * DEPTH;
    let depth = select(sizes.K, sizes.rank, is_low) - k0;
#if LOWRANK
    if (is_low) {
#for s in 0..ROWS / STEP
      store_x(lane, #{s * STEP}u, load_p(row0 + lane / #{DEPTH / 4}u + #{s * STEP}u, k0 + lane % #{DEPTH / 4}u * 4u) * power_of_two(254u - b_field) * scale#{s});
#endfor
      stage_b(lane, column0, k0, power_of_two(b_field));
    } else
#endif
    {
#for s in 0..ROWS / STEP
      store_x(lane, #{s * STEP}u, load_x(row0 + lane / #{DEPTH / 4}u + #{s * STEP}u, k0 + lane % #{DEPTH / 4}u * 4u) * scale#{s});
#endfor
      stage_w(lane, column0, k0);
    }
    workgroupBarrier();
    for (var k = 0u; k < min(DEPTH, depth); k += #{MATRIX_K}u) {
#for n in 0..TN
      let w#{n} = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&w_tile, w_first + k + #{n * MATRIX_N * (DEPTH + PAD)}u, STRIDE);
#endfor
#for m in 0..TM
      {
        let x = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&x_tile, x_first + k + #{m * MATRIX_M * (DEPTH + PAD)}u, STRIDE);
#for n in 0..TN
        sum#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x, w#{n}, sum#{m}_#{n});
#endfor
      }
#endfor
    }
  }
  // Epilogue: a matrix at a time; a lane has one column of it and ROWS_EACH rows.
  let tile_row = subgroup / #{SUBGROUPS_N}u * #{TM * MATRIX_M}u + subgroup_lane / #{ROW_LANES}u * #{ROWS_EACH}u;
  let column = column0 + subgroup % #{SUBGROUPS_N}u * #{TN * MATRIX_N}u + subgroup_lane % #{ROW_LANES}u;
  let result = subgroup * #{MATRIX_M * MATRIX_N}u + subgroup_lane / #{ROW_LANES}u * #{ROWS_EACH * MATRIX_N}u + subgroup_lane % #{ROW_LANES}u;
#for m in 0..TM
#for n in 0..TN
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&results, subgroup * #{MATRIX_M * MATRIX_N}u, sum#{m}_#{n}, #{MATRIX_N}u);
  workgroupBarrier();
  if (column + #{n * MATRIX_N}u < sizes.M) {
#for i in 0..ROWS_EACH
    {
      let row = tile_row + #{m * MATRIX_M + i}u;
      if (row0 + row < sizes.N) {
        let unscale = power_of_two(254u - scale_field(atomicLoad(&row_max[row]), 14u));
        finish(row0 + row, column + #{n * MATRIX_N}u, unscale * results[result + #{i * MATRIX_N}u]);
      }
    }
#endfor
  }
#endfor
#endfor
}
