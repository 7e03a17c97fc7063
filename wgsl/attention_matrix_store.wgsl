// Part of the attention kernels on matrices: hands the elements of sum(SUM), times row_factor, to put(SUM), a matrix at a time. With LATE
// a second sum goes by columns, so that its addresses are not those of the first, and loops end at one number that all have in common.
#let BY_COLUMN = LATE && SUM
#for m in 0..TM
#for n in 0..TO
  workgroupBarrier();
#if BY_COLUMN
  subgroupMatrixStore<col_major>(&scores0, subgroup * #{MATRIX_M * MATRIX_N}u, sum#{SUM}_#{m}_#{n}, #{MATRIX_M}u);
#else
  subgroupMatrixStore<row_major>(&scores0, subgroup * #{MATRIX_M * MATRIX_N}u, sum#{SUM}_#{m}_#{n}, #{MATRIX_N}u);
#endif
  workgroupBarrier();
#if LATE
  for (var i = subgroup_lane; i / #{MATRIX_M * MATRIX_N}u < width / WIDTH; i += #{LANES_PER_SUBGROUP}u) {
#else
  for (var i = subgroup_lane; i < width / WIDTH * #{MATRIX_M * MATRIX_N}u; i += #{LANES_PER_SUBGROUP}u) {
#endif
    let own_row = subgroup_m * #{X_PART}u + #{m * MATRIX_M}u + i / #{MATRIX_N}u;
    let d = subgroup_n * #{TO * MATRIX_N}u + #{n * MATRIX_N}u + i % #{MATRIX_N}u;
    if (first_row + own_row < sizes.N && d < D) {
#if BY_COLUMN
      let at = i % #{MATRIX_N}u * #{MATRIX_M}u + i / #{MATRIX_N}u;
#else
      let at = i;
#endif
      put#{SUM}(((first_row + own_row) * result_heads + result_head) * D + d, row_factor[own_row] * scores0[subgroup * #{MATRIX_M * MATRIX_N}u + at]);
    }
  }
#endfor
#endfor
