// Attention forward with online softmax on subgroup matrices (attention_matrix.wgsl): one workgroup per ROWS queries of one head, keys in
// tiles. A weight is 2^10 exp(score - reference); the row's reference follows its largest score only when that is 4 above, so weights
// stay below 2^16, those below 2^-24 of the largest lose bits, and sums seldom have to leave their matrices to be scaled.
// Grid: query tiles * HEADS.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#include "attention_bindings.wgsl"
@group(0) @binding(5) var<storage, read_write> o: array<f32>; // [N, HEADS, D]
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [N, HEADS]
#include "attention_loads.wgsl"
#include "attention_matrix.wgsl"
const LAG = 4.0;
const WEIGHT = 1024.0;
var<workgroup> is_behind: array<atomic<u32>, 4>; // [0]: whether a row's reference moved

fn put0(at: u32, value: f32) {
  o[at] = value;
}

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) wg: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
#include "attention_matrix_query_rows.wgsl"
#include "attention_matrix_keys.wgsl"
#let OWN = 0
#let SOURCE = 3
#include "attention_matrix_own.wgsl"
#if HELD
  workgroupBarrier();
#endif
#include "attention_matrix_held.wgsl"
#for m in 0..TM
#for n in 0..TO
  var sum0_#{m}_#{n}: subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>;
#if FEW
  sum0_#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), sum0_#{m}_#{n});
#endif
#endfor
#endfor
  var reference = MASKED;
  var total = 0.0; // of this lane's columns
  for (var tile = (last_j - lowest) / COLUMNS + 1u; tile > 0u; tile--) { // it is known to end: no guard
    let j0 = lowest + (tile - 1u) * COLUMNS;
    workgroupBarrier();
    if (lane == 0u) {
      atomicStore(&is_behind[0], 0u);
    }
    {
      let field = k_field;
#let SOURCE = 1
#let TURNED = 0
#include "attention_matrix_stage.wgsl"
    }
    workgroupBarrier();
#include "attention_matrix_scores.wgsl"
    workgroupBarrier();
    var next = MASKED;
#for e in 0..EACH
    let key#{e} = j0 + part * #{EACH}u + #{e}u;
    let seen#{e} = key#{e} >= first && key#{e} <= stream_row;
    let s#{e} = select(MASKED, scores0[row * SCORE_STRIDE0 + part * #{EACH}u + #{e}u] * inverse(own0_field) * inverse(k_field) * sizes.scale, seen#{e});
    next = max(next, s#{e});
#endfor
    next = max_of_row(next);
    var shrink = 1.0;
    if (next > reference + LAG) {
      if (reference > MASKED) {
        atomicStore(&is_behind[0], 1u);
      }
      shrink = exp(max(reference - next, -80.0));
      reference = next;
    }
    total *= shrink;
    if (part == 0u) {
      row_factor[row] = shrink;
    }
#for e in 0..EACH
    let p#{e} = select(0.0, exp(max(s#{e} - reference, -80.0)), seen#{e});
    total += p#{e};
    weights0[row / #{X_PART}u][row % #{X_PART}u * WEIGHT_STRIDE + part * #{EACH}u + #{e}u] = f16(WEIGHT * p#{e});
#endfor
    {
      let field = v_field;
#let SOURCE = 0
#let TURNED = 1
#include "attention_matrix_stage.wgsl"
    }
    if (workgroupUniformLoad(&is_behind[0]) != 0u) {
#for m in 0..TM
#for n in 0..TO
      subgroupMatrixStore<row_major>(&scores0, subgroup * #{MATRIX_M * MATRIX_N}u, sum0_#{m}_#{n}, #{MATRIX_N}u);
      workgroupBarrier();
      for (var i = subgroup_lane; i < width / WIDTH * #{MATRIX_M * MATRIX_N}u; i += #{LANES_PER_SUBGROUP}u) {
        scores0[subgroup * #{MATRIX_M * MATRIX_N}u + i] *= row_factor[subgroup_m * #{X_PART}u + #{m * MATRIX_M}u + i / #{MATRIX_N}u];
      }
      workgroupBarrier();
      sum0_#{m}_#{n} = subgroupMatrixLoad<subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>, row_major>(&scores0, subgroup * #{MATRIX_M * MATRIX_N}u, #{MATRIX_N}u);
#if FEW
      sum0_#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), sum0_#{m}_#{n});
#endif
      workgroupBarrier();
#endfor
#endfor
    }
#let SUM = 0
#include "attention_matrix_sum.wgsl"
  }
  total = sum_of_row(total);
  if (part == 0u && first_row + row < sizes.N) {
    lse[own_t * HEADS + head] = reference + log(total);
  }
  workgroupBarrier();
  if (part == 0u) {
    row_factor[row] = inverse(v_field) / (WEIGHT * total);
  }
  let result_heads = HEADS;
  let result_head = head;
#include "attention_matrix_store.wgsl"
}
