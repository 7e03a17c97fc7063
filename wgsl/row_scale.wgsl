// Part of kernels that take the gradient dy of DoRA's output: e = g dy is written nowhere, it is what g makes of the rows of W and B.
#if SCALE_ROWS
#if SCALE_ONLY
@group(0) @binding(7) var<storage, read> scale_bias: array<f32>; // [out] g
#else
@group(0) @binding(7) var<storage, read> scale_bias: array<vec2f>; // [out] g, bias
#endif

// g of a row: 1 where none is scaled.
fn g_of(row: u32) -> f32 {
#if SCALE_ONLY
  return scale_bias[row];
#else
  return scale_bias[row].x;
#endif
}
#else

fn g_of(row: u32) -> f32 {
  return 1.0;
}
#endif
