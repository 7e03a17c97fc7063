// RMSNorm backward: dx = (dy w - x sum(dy w x) / (D (mean(x^2) + eps))) / sqrt(mean(x^2) + eps) + residual, or added to dx.
// One workgroup per row of LANES lanes. Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  rows: u32,
  D: u32,
  eps: f32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, D]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [D]
@group(0) @binding(3) var<storage, read> dy: array<f32>; // [rows, D]
#if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [rows, D]
#endif
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // [rows, D]
#include "reduce_sum.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = wg.y * 32768u + wg.x;
  let live = row < sizes.rows;
  let start = select(0u, row * sizes.D, live);
  var squares = 0.0;
  var dot = 0.0;
  for (var i = lane; i < sizes.D; i += LANES) {
    let value = x[start + i];
    squares += value * value;
    dot += value * weight[i] * dy[start + i];
  }
  let mean = reduce_sum(lane, squares) / f32(sizes.D) + sizes.eps;
  let inv_rms = 1.0 / sqrt(mean);
  let pull = reduce_sum(lane, dot) / (f32(sizes.D) * mean);
  if (live) {
    for (var i = lane; i < sizes.D; i += LANES) {
      var value = (dy[start + i] * weight[i] - x[start + i] * pull) * inv_rms;
#if RESIDUAL
      value += residual[start + i];
#endif
#if ADD
      value += dx[start + i];
#endif
      dx[start + i] = value;
    }
  }
}
