// Part of the attention kernels on matrices: sum(SUM) += weights(SUM) times what is staged, turned, in `other`.
  {
#if LATE
  let of_n = subgroup_n + 2u * zero;
#else
  let of_n = subgroup_n;
#endif
#for u in 0..COLUMNS / MATRIX_K
  {
#for m in 0..TM
    let x#{m} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&weights#{SUM}[subgroup_m], #{m * MATRIX_M * WEIGHT_STRIDE + u * MATRIX_K}u, WEIGHT_STRIDE);
#endfor
#for n in 0..TO
    {
      let w = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&other[of_n * #{TO}u + #{n}u], #{u * MATRIX_K}u, STRIDE);
#for m in 0..TM
      sum#{SUM}_#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x#{m}, w, sum#{SUM}_#{m}_#{n});
#endfor
    }
#endfor
  }
#endfor
  }
