// Part of the attention kernels on matrices: scores(OWN) = own(OWN) times what is staged in `other`, over the whole head, SPAN chunks
// at a time.
  {
#for m in 0..TM
#for n in 0..TN
    var dots#{m}_#{n} = subgroup_matrix_result<f32, #{MATRIX_N}, #{MATRIX_M}>();
#if FEW
    dots#{m}_#{n} = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>(), subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>(), dots#{m}_#{n});
#endif
#endfor
#endfor
    for (var round = width / #{COLUMNS * SPAN}u; round > 0u; round--) {
#for c in 0..SPAN
#for u in 0..COLUMNS / MATRIX_K
      {
        let chunk = (round - 1u) * #{SPAN}u + #{c}u;
#for m in 0..TM
#if HELD
        let x#{m} = held#{OWN}_#{m}_#{c * COLUMNS / MATRIX_K + u};
#else
        let x#{m} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&own#{OWN}[chunk][subgroup_m], #{m * MATRIX_M * STRIDE + u * MATRIX_K}u, STRIDE);
#endif
#endfor
#for n in 0..TN
        {
          let w = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&other[chunk * #{COLUMN_BLOCKS}u + subgroup_n * #{TN}u + #{n}u], #{u * MATRIX_K}u, STRIDE);
#for m in 0..TM
          dots#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x#{m}, w, dots#{m}_#{n});
#endfor
        }
#endfor
      }
#endfor
#endfor
    }
#for m in 0..TM
#for n in 0..TN
    subgroupMatrixStore<row_major>(&scores#{OWN}, subgroup_m * #{X_PART * SCORE_STRIDE}u + subgroup_n * #{TN * MATRIX_N}u + #{m * MATRIX_M * SCORE_STRIDE + n * MATRIX_N}u, dots#{m}_#{n}, SCORE_STRIDE);
#endfor
#endfor
  }
