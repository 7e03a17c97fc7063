// Part of the attention kernels on matrices: hands the elements of sum(SUM), times row_factor, to put(SUM), a matrix at a time; a lane
// has one column of it and ROWS_EACH rows.
#for m in 0..TM
#for n in 0..TO
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores0, subgroup * #{MATRIX_M * MATRIX_N}u, sum#{SUM}_#{m}_#{n}, #{MATRIX_N}u);
  workgroupBarrier();
#for i in 0..ROWS_EACH
  {
    let own_row = matrix_row + #{m * MATRIX_M + i}u;
    let d = matrix_column + #{n * MATRIX_N}u;
    if (first_row + own_row < sizes.N && d < D) {
      put#{SUM}(((first_row + own_row) * result_heads + result_head) * D + d, row_factor[own_row] * scores0[matrix_element + #{i * MATRIX_N}u]);
    }
  }
#endfor
#endfor
#endfor
