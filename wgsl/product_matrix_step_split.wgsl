// Part of product_matrix_step.wgsl: of sums of two f16, RIGHT_TERMS of them on the right side. First by first, then the rest of x by first
// of W, then first of x by the rest of W; each matrix is loaded once, and products of one result stand as far apart as they can.
#for u in 0..STEPS
      {
#let LAYER = Math.floor((FIRST + u) * MATRIX_K / ROW_TERMS)
#let TERM = (FIRST + u) * MATRIX_K % ROW_TERMS
#for t in 0..2
#for m in 0..TM
        let x#{m}_#{t} = subgroupMatrixLoad<subgroup_matrix_left<f16, #{MATRIX_K}, #{MATRIX_M}>, row_major>(&x_tile[#{t * LAYERS + LAYER}u][subgroup_m], #{m * MATRIX_M * (ROW_TERMS + PAD) + TERM}u, STRIDE);
#endfor
#endfor
#for t in 0..RIGHT_TERMS
#for n in 0..TN
        let w#{n}_#{t} = subgroupMatrixLoad<subgroup_matrix_right<f16, #{MATRIX_N}, #{MATRIX_K}>, col_major>(&w_tile[#{t * LAYERS + LAYER}u][subgroup_n], #{n * MATRIX_N * (ROW_TERMS + PAD) + TERM}u, STRIDE);
#endfor
#endfor
#for s in 0..1 + RIGHT_TERMS
#for n in 0..TN
#for m in 0..TM
        sum#{m}_#{n} = subgroupMatrixMultiplyAccumulate(x#{m}_#{s == 1 ? 1 : 0}, w#{n}_#{s == 2 ? 1 : 0}, sum#{m}_#{n});
#endfor
#endfor
#endfor
      }
#endfor
