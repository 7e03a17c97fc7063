// Attention backward for q on subgroup matrices (attention_matrix.wgsl): p = exp(scale q k - lse), d_q = sum of p (d_o v - delta) scale k.
// One workgroup per ROWS queries of one head, keys in tiles. A row of gradients of scores becomes f16 times the power of two that brings
// its bound, (sum |d_o| max |v| + |delta|) scale, near 2^14. Grid: query tiles * HEADS.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#include "attention_bindings.wgsl"
@group(0) @binding(8) var<storage, read_write> d_q: array<f32>; // [N, HEADS, D]
#include "attention_loads.wgsl"
#include "attention_matrix.wgsl"

fn put0(at: u32, value: f32) {
  d_q[at] = value;
}

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) wg: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
#include "attention_matrix_query_rows.wgsl"
  let row_statistics = statistics[own_t * HEADS + head];
#include "attention_matrix_keys.wgsl"
#let OWN = 0
#let SOURCE = 3
#include "attention_matrix_own.wgsl"
#let OWN = 1
#let SOURCE = 2
#include "attention_matrix_own.wgsl"
#if HELD
  workgroupBarrier();
#endif
#let OWN = 0
#include "attention_matrix_held.wgsl"
#let OWN = 1
#include "attention_matrix_held.wgsl"
  let bound = (own1_sum * take_most(1u) + abs(row_statistics.y)) * abs(sizes.scale);
  let gradient_field = scale_field(bound, 14u);
#for m in 0..TM
#for n in 0..TO
  var sum0_#{m}_#{n}: subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>;
#if FEW
  sum0_#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), sum0_#{m}_#{n});
#endif
#endfor
#endfor
  for (var tile = (last_j - lowest) / COLUMNS + 1u; tile > 0u; tile--) { // it is known to end: no guard
    let j0 = lowest + (tile - 1u) * COLUMNS;
    workgroupBarrier();
    {
      let field = k_field;
#let SOURCE = 1
#let TURNED = 0
#include "attention_matrix_stage.wgsl"
    }
    workgroupBarrier();
#let OWN = 0
#include "attention_matrix_scores.wgsl"
    workgroupBarrier();
    {
      let field = v_field;
#let SOURCE = 0
#let TURNED = 0
#include "attention_matrix_stage.wgsl"
    }
    workgroupBarrier();
#let OWN = 1
#include "attention_matrix_scores.wgsl"
    workgroupBarrier();
    for (var e = 0u; e < width / WIDTH * EACH; e++) {
      let column = part * EACH + e;
      let score = scores0[row * SCORE_STRIDE0 + column] * inverse(own0_field) * inverse(k_field) * sizes.scale;
      let p = exp(clamp(score - row_statistics.x, -80.0, 0.0));
      let gradient = scores1[row * SCORE_STRIDE1 + column] * inverse(own1_field) * inverse(v_field);
      let ds = p * (gradient - row_statistics.y) * sizes.scale;
      let seen = j0 + column >= first && j0 + column <= stream_row;
      weights0[row / #{X_PART}u][row % #{X_PART}u * WEIGHT_STRIDE + column] = f16(select(0.0, ds * power_of_two(gradient_field), seen));
    }
    {
      let field = k_field;
#let SOURCE = 1
#let TURNED = 1
#include "attention_matrix_stage.wgsl"
    }
    workgroupBarrier();
#let SUM = 0
#include "attention_matrix_sum.wgsl"
  }
  workgroupBarrier();
  if (part == 0u) {
    row_factor[row] = inverse(gradient_field) * inverse(k_field);
  }
  let result_heads = HEADS;
  let result_head = head;
#include "attention_matrix_store.wgsl"
}
