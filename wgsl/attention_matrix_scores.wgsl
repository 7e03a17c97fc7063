// Part of the attention kernels on matrices: scores(OWN) = own(OWN) times what is staged in `other`, over the whole head, SPAN chunks
// at a time. With FEW the whole head at a time, but its first MATRIX_K terms before the loop: the sums start as results of products, and
// what Intel's compiler computes for them, it need not compute in the loop.
#let CHUNK_STEPS = COLUMNS / MATRIX_K
  {
#for m in 0..TM
#for n in 0..TN
    var dots#{m}_#{n} = subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>();
#endfor
#endfor
#for step in 0..FEW
    {
      const chunk = 0u;
      let of_m = subgroup_m;
#if LATE
      let of_n = subgroup_n + #{OWN}u * zero;
#else
      let of_n = subgroup_n;
#endif
#include "attention_matrix_scores_step.wgsl"
    }
#endfor
#if FEW
    for (var round = width / WIDTH; round > 0u; round--) {
#else
    for (var round = width / #{COLUMNS * SPAN}u; round > 0u; round--) {
#endif
#if LATE
      let of_m = min(subgroup_m + (round - 1u), #{SUBGROUPS_M - 1}u);
#else
      let of_m = subgroup_m;
#endif
#if LATE && HELD
      let of_n = min(subgroup_n + (round - 1u), #{SUBGROUPS_N - 1}u);
#else
      let of_n = subgroup_n;
#endif
#for step in FEW..(FEW ? CHUNKS : SPAN) * CHUNK_STEPS
      {
#if FEW
        const chunk = #{Math.floor(step / CHUNK_STEPS)}u;
#else
        let chunk = (round - 1u) * #{SPAN}u + #{Math.floor(step / CHUNK_STEPS)}u;
#endif
#include "attention_matrix_scores_step.wgsl"
      }
#endfor
    }
#for m in 0..TM
#for n in 0..TN
    subgroupMatrixStore<row_major>(&scores#{OWN}, subgroup_m * (#{X_PART}u * SCORE_STRIDE#{OWN}) + subgroup_n * #{TN * MATRIX_N}u + #{m * MATRIX_M}u * SCORE_STRIDE#{OWN} + #{n * MATRIX_N}u, dots#{m}_#{n}, SCORE_STRIDE#{OWN});
#endfor
#endfor
  }
