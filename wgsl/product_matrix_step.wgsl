// Part of product_matrix.wgsl: the products of STEPS * MATRIX_K terms, those from step FIRST on. Left matrices are held, right ones pass by;
// the steps of one result come after each other, so that only one of its sums is on its way.
#if X_TERMS == 2
#include "product_matrix_step_split.wgsl"
#else
      {
#for u in 0..STEPS
#for m in 0..TM
      let x#{m}_#{u} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&x_tile[#{Math.floor((FIRST + u) * MATRIX_K / ROW_TERMS)}u][subgroup_m], #{m * MATRIX_M * (ROW_TERMS + PAD) + (FIRST + u) * MATRIX_K % ROW_TERMS}u, STRIDE);
#endfor
#endfor
#for n in 0..TN
#for u in 0..STEPS
      {
        let w = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&w_tile[#{Math.floor((FIRST + u) * MATRIX_K / ROW_TERMS)}u][subgroup_n], #{n * MATRIX_N * (ROW_TERMS + PAD) + (FIRST + u) * MATRIX_K % ROW_TERMS}u, STRIDE);
#for m in 0..TM
        sum#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x#{m}_#{u}, w, sum#{m}_#{n});
#endfor
      }
#endfor
#endfor
      }
#endif
