// g_j = m_j / c_j in scale_bias (a bias there stays), with c_j^2 = ||W_j||^2 + 2 s B_j (A Wt)_j + s^2 B_j (A At) B_jt, the row norm of W + s B A.
// One lane per row. Any adapter; once per update.
const LANES = #{LANES}u;
struct Sizes {
  out: u32,
  rank: u32,
  scaling: f32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> product: array<f32>; // [rank, out] A Wt
@group(0) @binding(2) var<storage, read> gram: array<f32>; // [rank, rank] A At
@group(0) @binding(3) var<storage, read> b: array<f32>; // [out, rank]
@group(0) @binding(4) var<storage, read> w_squared: array<f32>; // [out]
@group(0) @binding(5) var<storage, read> magnitude: array<f32>; // [out]
#if BIAS
@group(0) @binding(6) var<storage, read_write> scale_bias: array<vec2f>; // [out] g, bias
#else
@group(0) @binding(6) var<storage, read_write> scale_bias: array<f32>; // [out] g
#endif

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = (wg.y * 32768u + wg.x) * LANES + lane;
  if (j < sizes.out) {
    var cross = 0.0;
    var square = 0.0;
    for (var r = 0u; r < sizes.rank; r++) {
      var inner = 0.0;
      for (var i = 0u; i < sizes.rank; i++) {
        inner = fma(gram[r * sizes.rank + i], b[j * sizes.rank + i], inner);
      }
      let value = b[j * sizes.rank + r];
      cross = fma(value, product[r * sizes.out + j], cross);
      square = fma(value, inner, square);
    }
    let norm2 = w_squared[j] + sizes.scaling * (2.0 * cross + sizes.scaling * square);
    var scale = 0.0; // of a row of zeros
    if (norm2 > 0.0) {
      scale = magnitude[j] / sqrt(norm2);
    }
#if BIAS
    scale_bias[j].x = scale;
#else
    scale_bias[j] = scale;
#endif
  }
}
