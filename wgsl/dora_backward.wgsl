// e = g dy into dy (OVER_Y: into y), magnitude_gradient_j += sum over tokens of dy (y - residual - bias_j) / m_j: with y = g u + bias + residual
// that is dy u / c. With TURNED, y was turned by RoPE (rope.wgsl) and is turned back. COLUMNS columns side by side, ROWS tokens at a time
// per workgroup, a loop over all tokens. With Y_BLOCKS, y lies in blocks of four (block_float.wgsl).
// Grid: column tiles. Any adapter; limited by memory bandwidth. The order of the sums is fixed.
const COLUMNS = #{COLUMNS}u;
const ROWS = #{ROWS}u;
struct Sizes {
  N: u32,
  out: u32,
#if TURNED
  headDim: u32,
  factor: f32, // undoes the table's scale
#endif
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if OVER_Y
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [N, out]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [N, out]
#else
@group(0) @binding(1) var<storage, read_write> dy: array<f32>; // [N, out]
#if Y_BLOCKS
@group(0) @binding(2) var<storage, read> y: array<vec2u>; // [N, out / 4] blocks of four
#else
@group(0) @binding(2) var<storage, read> y: array<f32>; // [N, out]
#endif
#endif
#if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [N, out]
#endif
#if SCALE_ONLY
@group(0) @binding(4) var<storage, read> scale_bias: array<f32>; // [out] g
#else
@group(0) @binding(4) var<storage, read> scale_bias: array<vec2f>; // [out] g, bias
#endif
@group(0) @binding(5) var<storage, read> magnitude: array<f32>; // [out]
@group(0) @binding(6) var<storage, read_write> magnitude_gradient: array<f32>; // [out]
#if TURNED
@group(0) @binding(7) var<storage, read> positions: array<u32>; // [N]
@group(0) @binding(8) var<storage, read> table: array<vec2f>; // [positions, headDim / 2] cos, sin
#endif
#if Y_BLOCKS
#include "block_float.wgsl"
#endif
var<workgroup> sums: array<f32, #{COLUMNS * ROWS}>; // [ROWS, COLUMNS]

fn y_stored(at: u32) -> f32 {
#if Y_BLOCKS
  return unpack_block(y[at / 4u])[at % 4u];
#else
  return y[at];
#endif
}

fn y_at(t: u32, j: u32) -> f32 {
  let at = t * sizes.out + j;
#if TURNED
  let half = sizes.headDim / 2u;
  let d = j % sizes.headDim;
  let first = d < half;
  let turn = table[positions[t] * half + select(d - half, d, first)];
  let partner = y_stored(select(at - half, at + half, first));
  return sizes.factor * fma(partner, select(-turn.y, turn.y, first), y_stored(at) * turn.x);
#else
  return y_stored(at);
#endif
}

@compute @workgroup_size(#{COLUMNS * ROWS})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = wg.x * COLUMNS + lane % COLUMNS;
  let j = min(column, sizes.out - 1u);
#if SCALE_ONLY
  let scale = vec2f(scale_bias[j], 0.0);
#else
  let scale = scale_bias[j];
#endif
  var sum = 0.0;
  if (column < sizes.out) {
    for (var t = lane / COLUMNS; t < sizes.N; t += ROWS) {
      let at = t * sizes.out + j;
      let d = dy[at];
#if RESIDUAL
      sum = fma(d, y_at(t, j) - residual[at] - scale.y, sum);
#else
      sum = fma(d, y_at(t, j) - scale.y, sum);
#endif
#if OVER_Y
      y[at] = scale.x * d;
#else
      dy[at] = scale.x * d;
#endif
    }
  }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane < COLUMNS && column < sizes.out) {
    for (var row = 1u; row < ROWS; row++) {
      sum += sums[row * COLUMNS + lane];
    }
    let m = magnitude[j];
    if (m != 0.0) {
      magnitude_gradient[j] += sum / m;
    }
  }
}
