// Part of attention_matrix_scores.wgsl: the products of the MATRIX_K terms number `step`, which lie in `chunk`, for the subgroup at
// of_m, of_n.
#for m in 0..TM
#if HELD
        let x#{m} = held#{OWN}_#{m}_#{step};
#else
        let x#{m} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&own#{OWN}[chunk][of_m], #{m * MATRIX_M * STRIDE + step % CHUNK_STEPS * MATRIX_K}u, STRIDE);
#endif
#endfor
#for n in 0..TN
        {
          let w = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&other[chunk * #{COLUMN_BLOCKS}u + of_n * #{TN}u + #{n}u], #{step % CHUNK_STEPS * MATRIX_K}u, STRIDE);
#for m in 0..TM
          dots#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x#{m}, w, dots#{m}_#{n});
#endfor
        }
#endfor
