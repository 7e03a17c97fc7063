// Part of product_matrix.wgsl: the products of STEPS * MATRIX_K terms, those from step FIRST on. Left matrices are held, right ones pass by;
// the steps of one result come after each other, so that only one of its sums is on its way. Of sums of two f16: first by first, then
// the rest of x by first of W, then first of x by the rest of W.
#for s in 0..X_TERMS + W_TERMS - 1
      {
#let X_AT = s == 1 ? LAYERS : 0
#let W_AT = s == 2 ? LAYERS : 0
#for u in 0..STEPS
#for m in 0..TM
      let x#{m}_#{u} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&x_tile[#{X_AT + Math.floor((FIRST + u) * MATRIX_K / ROW_TERMS)}u][subgroup_m], #{m * MATRIX_M * (ROW_TERMS + PAD) + (FIRST + u) * MATRIX_K % ROW_TERMS}u, STRIDE);
#endfor
#endfor
#for n in 0..TN
#for u in 0..STEPS
      {
        let w = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&w_tile[#{W_AT + Math.floor((FIRST + u) * MATRIX_K / ROW_TERMS)}u][subgroup_n], #{n * MATRIX_N * (ROW_TERMS + PAD) + (FIRST + u) * MATRIX_K % ROW_TERMS}u, STRIDE);
#for m in 0..TM
        sum#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x#{m}_#{u}, w, sum#{m}_#{n});
#endfor
      }
#endfor
#endfor
      }
#endfor
