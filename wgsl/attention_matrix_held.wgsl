// Part of the attention kernels on matrices: with HELD, own(OWN) as left matrices, which stay in registers.
#if HELD
#for c in 0..CHUNKS
#for u in 0..COLUMNS / MATRIX_K
#for m in 0..TM
  let held#{OWN}_#{m}_#{c * COLUMNS / MATRIX_K + u} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&own#{OWN}[#{c}][subgroup_m], #{m * MATRIX_M * STRIDE + u * MATRIX_K}u, STRIDE);
#endfor
#endfor
#endfor
#endif
