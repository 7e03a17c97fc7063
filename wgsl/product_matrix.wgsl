// Products through subgroup matrices: y = x op(W) + p op(B), f16 inputs, f32 sums. A tile of ROWS x COLUMNS results per workgroup;
// each of SUBGROUPS_M x SUBGROUPS_N subgroups holds TM x TN result matrices. Both operands are converted while they are staged into
// workgroup memory, terms side by side (the layout that every vendor's matrix loads want), DEPTH terms at a time. Matrix loads want
// addresses at multiples of 16 bytes, which nothing but the sizes of the variables before a tile gives: all are multiples of that.
// A row of x is scaled by a power of two that brings its largest value near 2^14, found in a first pass over the row: no value
// overflows, and only those below 2^-28 of the row's largest lose bits. B has such a scale per column tile, and p the opposite one.
// Weights must lie within f16's range. With X_TERMS and W_TERMS of 2 a value is the sum of two f16, its first 11 bits and what they
// leave, and all products but that of both rests are added: nearly f32's numbers. W_TERMS is 1 where f16 holds W; B, which lies in the tiles
// of W (TILE_TERMS), is a sum of as many as x. Grid: column tiles, row tiles.
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
#let ROW_LANES = MATRIX_N
#let ROWS_EACH = MATRIX_M * MATRIX_N / LANES_PER_SUBGROUP
const LANES = #{LANES}u;
const ROWS = #{ROWS}u;
const COLUMNS = #{COLUMNS}u;
const DEPTH = #{DEPTH}u;
#let SLICES = DEPTH / MATRIX_K
#let ROW_TERMS = AHEAD ? DEPTH : MATRIX_K
#let LAYERS = DEPTH / ROW_TERMS
const STRIDE = #{ROW_TERMS + PAD}u; // of a row of a tile, padded against bank conflicts
#let X_PART = TM * MATRIX_M
#let W_PART = TN * MATRIX_N
#include "product_bindings.wgsl"
#include "product_rows.wgsl"
// [X_TERMS * LAYERS, SUBGROUPS_M, TM * MATRIX_M, STRIDE]. The two outer indices stand outside of what a matrix load sees: its offset is
// a constant then, and bounds checks of matrix loads fall away.
var<workgroup> x_tile: array<array<array<f16, #{X_PART * (ROW_TERMS + PAD)}>, #{SUBGROUPS_M}>, #{X_TERMS * LAYERS}>;
var<workgroup> w_tile: array<array<array<f16, #{W_PART * (ROW_TERMS + PAD)}>, #{SUBGROUPS_N}>, #{TILE_TERMS * LAYERS}>;
var<workgroup> row_max: array<atomic<u32>, ROWS>; // bits of the largest magnitude of a row
var<workgroup> row_scale: array<f32, ROWS>; // powers of two
var<workgroup> results: array<f32, #{SUBGROUPS * MATRIX_M * MATRIX_N}>; // one matrix per subgroup
#if LOWRANK
var<workgroup> b_max: array<atomic<u32>, 4>; // [0]: bits of the largest magnitude of the column tile of B
#endif
#if NF4
#include "nf4_levels.wgsl"
var<workgroup> levels: array<f32, 16>;
#endif
#include "product_load_eight.wgsl"
#include "product_matrix_stage.wgsl"
#let FETCH = AHEAD && NF4 && ALIGNED && BLOCK % DEPTH == 0
#if FETCH
#include "product_matrix_fetch.wgsl"
#endif

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
#if FETCH && DOUBLE
#for s in 0..Math.ceil(256 / LANES)
  if (lane + #{s * LANES}u < 256u) {
    scale_map[lane + #{s * LANES}u] = bitcast<f32>(absmax[lane + #{s * LANES}u]);
  }
#endfor
#endif
#for s in 0..Math.ceil(ROWS / LANES)
  if (lane + #{s * LANES}u < ROWS) {
    atomicStore(&row_max[lane + #{s * LANES}u], 0u);
  }
#endfor
#if LOWRANK
  if (lane == 0u) {
    atomicStore(&b_max[0], 0u);
  }
  workgroupBarrier();
  find_b_max(lane, column0);
  workgroupBarrier();
  let b_field = scale_field(atomicLoad(&b_max[0]), 1u);
#else
  workgroupBarrier();
  let b_field = 127u;
#endif
  find_row_max(lane, row0, b_field);
  workgroupBarrier();
#for s in 0..Math.ceil(ROWS / LANES)
  if (lane + #{s * LANES}u < ROWS) {
    row_scale[lane + #{s * LANES}u] = power_of_two(scale_field(atomicLoad(&row_max[lane + #{s * LANES}u]), 14u));
  }
#endfor
#if BATCH * STEP == ROWS
#for i in 0..BATCH
  let own#{i} = own_row(lane) + #{i * STEP}u;
  let start#{i} = x_start(row0 + own#{i});
#if LOWRANK
  let low_start#{i} = p_start(row0 + own#{i});
#endif
  let scale#{i} = power_of_two(scale_field(atomicLoad(&row_max[own#{i}]), 14u));
#endfor
#endif
  let subgroup_m = subgroup / #{SUBGROUPS_N}u;
  let subgroup_n = subgroup % #{SUBGROUPS_N}u;
#for m in 0..TM
#for n in 0..TN
  var sum#{m}_#{n}: subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>;
#if PEELED
  // Neither a constant at the start nor a loop's result at the end of a round, only products: Intel's compiler keeps such sums in place.
  sum#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), sum#{m}_#{n});
#endif
#endfor
#endfor
  // The terms of p and B come first, in whole tiles. Loops inside run from or to numbers that compilers do not know: they keep them
  // loops, where unrolling would need too many registers. Of those that count down, it is known that they end.
#if LOWRANK
  let low = (sizes.rank + DEPTH - 1u) / DEPTH * DEPTH;
#else
  let low = 0u;
#endif
#if AHEAD
#include "product_matrix_ahead.wgsl"
#else
#let RIGHT_TERMS = TILE_TERMS
  for (var at = 0u; at < low + sizes.K; at += DEPTH) {
    workgroupBarrier();
    let row_end = min(row0 + ROWS, sizes.N); // rows past N are not staged
    let k = lane % #{DEPTH / 4}u * 4u;
#if LOWRANK
    if (at < low) {
      let inverse = power_of_two(254u - b_field);
#if BATCH * STEP == ROWS
#for i in 0..BATCH
      store_x(lane, own#{i}, k, load_p_from(low_start#{i}, at + k) * (inverse * scale#{i}));
#endfor
#else
      for (var r = row0; r < row_end; r += #{BATCH * STEP}u) {
#for i in 0..BATCH
        {
          let row = r - row0 + own_row(lane) + #{i * STEP}u;
          store_x(lane, row, k, load_p(row0 + row, at + k) * (inverse * row_scale[row]));
        }
#endfor
      }
#endif
      stage_b(lane, column0, at, power_of_two(b_field));
    } else
#endif
    {
#if BATCH * STEP == ROWS
#for i in 0..BATCH
      store_x(lane, own#{i}, k, load_x_from(start#{i}, at - low + k) * scale#{i});
#endfor
#else
      for (var r = row0; r < row_end; r += #{BATCH * STEP}u) {
#for i in 0..BATCH
        {
          let row = r - row0 + own_row(lane) + #{i * STEP}u;
          store_x(lane, row, k, load_x(row0 + row, at - low + k) * row_scale[row]);
        }
#endfor
      }
#endif
      stage_w(lane, column0, at - low);
    }
    workgroupBarrier();
    let terms = min(DEPTH, select(low + sizes.K, sizes.rank, at < low) - at);
#include "product_matrix_rounds.wgsl"
  }
#endif
  // Epilogue: a matrix at a time; a lane has one column of it and ROWS_EACH rows.
  let tile_row = subgroup_m * #{X_PART}u + subgroup_lane / #{ROW_LANES}u * #{ROWS_EACH}u;
  let column = column0 + subgroup_n * #{W_PART}u + subgroup_lane % #{ROW_LANES}u;
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
        let unscale = power_of_two(254u - (bitcast<u32>(row_scale[row]) >> 23u));
        finish(row0 + row, column + #{n * MATRIX_N}u, unscale * results[result + #{i * MATRIX_N}u]);
      }
    }
#endfor
  }
#endfor
#endfor
}
