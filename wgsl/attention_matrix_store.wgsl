// Part of the attention kernels on matrices: hands the elements of sum(SUM), times row_factor, to put(SUM), a matrix at a time.
#for m in 0..TM
#for n in 0..TO
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores0, subgroup * #{MATRIX_M * MATRIX_N}u, sum#{SUM}_#{m}_#{n}, #{MATRIX_N}u);
  workgroupBarrier();
  for (var i = subgroup_lane; i < width / WIDTH * #{MATRIX_M * MATRIX_N}u; i += #{LANES_PER_SUBGROUP}u) {
    let own_row = subgroup_m * #{X_PART}u + #{m * MATRIX_M}u + i / #{MATRIX_N}u;
    let d = subgroup_n * #{TO * MATRIX_N}u + #{n * MATRIX_N}u + i % #{MATRIX_N}u;
    if (first_row + own_row < sizes.N && d < D) {
      put#{SUM}(((first_row + own_row) * result_heads + result_head) * D + d, row_factor[own_row] * scores0[subgroup * #{MATRIX_M * MATRIX_N}u + i]);
    }
  }
#endfor
#endfor
