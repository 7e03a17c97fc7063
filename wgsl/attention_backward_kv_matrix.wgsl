// Attention backward for k and v on subgroup matrices (attention_matrix.wgsl): d_v = sum of p d_o, d_k = sum of p (d_o v - delta) scale q,
// over the queries that see the key and the query heads that share it. One workgroup per ROWS keys of one kv head, heads and query tiles
// in turn. Gradients of scores become f16 times one power of two, from the bound (D max |d_o| max |v| + max |delta|) scale; probabilities
// times 2^14. With two PASSES, d_v and then d_k, for few registers. Grid: key tiles * KV_HEADS.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#include "attention_bindings.wgsl"
@group(0) @binding(8) var<storage, read_write> d_k: array<f32>; // [N, KV_HEADS, D]
@group(0) @binding(9) var<storage, read_write> d_v: array<f32>; // [N, KV_HEADS, D]
#include "attention_loads.wgsl"
#let SUMS = 2
#include "attention_matrix.wgsl"
const PROBABILITY = 16384.0;
var<workgroup> column_statistics: array<vec2f, COLUMNS>; // lse, delta

fn put0(at: u32, value: f32) {
  d_v[at] = value;
}

fn put1(at: u32, value: f32) {
  d_k[at] = value;
}

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) wg: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
  let index = wg.y * 32768u + wg.x;
  let kv = index % KV_HEADS;
  let first_row = index / KV_HEADS * ROWS;
#include "attention_matrix_places.wgsl"
  let last_j = sizes.N - 1u;
  let own_j = min(first_row + row, last_j); // rows past the end repeat the last one
  let own_at = (own_j * KV_HEADS + kv) * D;
  let past = last_query(own_j);
  let queries_end = last_query(min(first_row + ROWS - 1u, last_j));
  let last_t = queries_end - 1u; // later queries may be too large for the powers of two: an infinity times 0 would be no 0
#let OWN = 0
#let SOURCE = 1
#include "attention_matrix_own.wgsl"
#let OWN = 1
#let SOURCE = 0
#include "attention_matrix_own.wgsl"
  {
    var most_q = 0.0;
    var most_d_o = 0.0;
    var most_delta = 0.0;
    for (var t = first_row + row; t < queries_end; t += ROWS) {
      for (var head = kv * GROUP; head < (kv + 1u) * GROUP; head++) {
        most_delta = max(most_delta, abs(statistics[t * HEADS + head].y));
      }
      for (var i = part; i < #{HEADS / KV_HEADS * Math.ceil(HEAD_DIM / 4)}u; i += PARTS) {
        let at = (t * HEADS + kv * GROUP + i / #{Math.ceil(HEAD_DIM / 4)}u) * D;
        most_q = max(most_q, largest(load_q(at, i % #{Math.ceil(HEAD_DIM / 4)}u * 4u)));
        most_d_o = max(most_d_o, largest(load_d_o(at, i % #{Math.ceil(HEAD_DIM / 4)}u * 4u)));
      }
    }
    offer_most(0u, most_q, subgroup_lane);
    offer_most(1u, most_d_o, subgroup_lane);
    offer_most(2u, most_delta, subgroup_lane);
    offer_most(3u, own1_most, subgroup_lane);
  }
  workgroupBarrier();
#let OWN = 0
#include "attention_matrix_held.wgsl"
#let OWN = 1
#include "attention_matrix_held.wgsl"
  let q_field = scale_field(take_most(0u), 14u);
  let d_o_field = scale_field(take_most(1u), 14u);
  let result_heads = KV_HEADS;
  let result_head = kv;
  let bound = (f32(D) * take_most(1u) * take_most(3u) + take_most(2u)) * abs(sizes.scale);
  let gradient_field = scale_field(bound, 14u);
#for PASS in 0..PASSES
#let HAS_V = PASS == 0
#let HAS_K = PASS == PASSES - 1
  {
#for m in 0..TM
#for n in 0..TO
#if HAS_V
    var sum0_#{m}_#{n}: subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>;
#if FEW
    sum0_#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), sum0_#{m}_#{n});
#endif
#endif
#if HAS_K
    var sum1_#{m}_#{n}: subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>;
#if FEW
    sum1_#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), sum1_#{m}_#{n});
#endif
#endif
#endfor
#endfor
  for (var of_group = GROUP; of_group > 0u; of_group--) {
    let head = kv * GROUP + of_group - 1u;
    for (var tile = (queries_end - first_row + COLUMNS - 1u) / COLUMNS; tile > 0u; tile--) { // it is known to end: no guard
      let t0 = first_row + (tile - 1u) * COLUMNS;
      workgroupBarrier();
      if (lane < COLUMNS) {
        column_statistics[lane] = statistics[min(t0 + lane, last_t) * HEADS + head];
      }
      {
        let field = q_field;
#let SOURCE = 3
#let TURNED = 0
#include "attention_matrix_stage.wgsl"
      }
      workgroupBarrier();
#let OWN = 0
#include "attention_matrix_scores.wgsl"
      workgroupBarrier();
#if HAS_K
      {
        let field = d_o_field;
#let SOURCE = 2
#let TURNED = 0
#include "attention_matrix_stage.wgsl"
      }
      workgroupBarrier();
#let OWN = 1
#include "attention_matrix_scores.wgsl"
      workgroupBarrier();
#endif
#if LATE
      for (var e = 0u; e / EACH < width / WIDTH; e++) {
#else
      for (var e = 0u; e < width / WIDTH * EACH; e++) {
#endif
        let column = part * EACH + e;
        let of_query = column_statistics[column];
        let score = scores0[row * SCORE_STRIDE0 + column] * inverse(own0_field) * inverse(q_field) * sizes.scale;
        let seen = t0 + column >= own_j && t0 + column < past;
        let p = select(0.0, exp(clamp(score - of_query.x, -80.0, 0.0)), seen);
        let at = row % #{X_PART}u * WEIGHT_STRIDE + column;
#if HAS_V
        weights0[row / #{X_PART}u][at] = f16(p * PROBABILITY);
#endif
#if HAS_K
        let gradient = scores1[row * SCORE_STRIDE1 + column] * inverse(own1_field) * inverse(d_o_field);
        let ds = p * (gradient - of_query.y) * sizes.scale;
        weights1[row / #{X_PART}u][at] = f16(ds * power_of_two(gradient_field));
#endif
      }
#if HAS_V
      {
        let field = d_o_field;
#let SOURCE = 2
#let TURNED = 1
#include "attention_matrix_stage.wgsl"
      }
      workgroupBarrier();
#let SUM = 0
#include "attention_matrix_sum.wgsl"
#endif
#if HAS_V && HAS_K
      workgroupBarrier();
#endif
#if HAS_K
      {
        let field = q_field;
#let SOURCE = 3
#let TURNED = 1
#include "attention_matrix_stage.wgsl"
      }
      workgroupBarrier();
#let SUM = 1
#include "attention_matrix_sum.wgsl"
#endif
    }
  }
#if HAS_V
  workgroupBarrier();
  if (part == 0u) {
    row_factor[row] = inverse(d_o_field) / PROBABILITY;
  }
#let SUM = 0
#include "attention_matrix_store.wgsl"
#endif
#if HAS_K
  workgroupBarrier();
  if (part == 0u) {
    row_factor[row] = inverse(gradient_field) * inverse(q_field);
  }
#let SUM = 1
#include "attention_matrix_store.wgsl"
#endif
  }
#endfor
}
