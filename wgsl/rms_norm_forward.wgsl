// RMSNorm forward: y = x / sqrt(mean(x^2) + eps) * weight. One workgroup per row of LANES lanes.
// x, y [rows, D]; weight [D]. Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  rows: u32,
  D: u32,
  eps: f32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, D]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [D]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, D]
#include "reduce_sum.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = wg.y * 32768u + wg.x;
  let live = row < sizes.rows;
  let start = select(0u, row * sizes.D, live);
  var squares = 0.0;
  for (var i = lane; i < sizes.D; i += LANES) {
    squares += x[start + i] * x[start + i];
  }
  let total = reduce_sum(lane, squares);
  let inv_rms = 1.0 / sqrt(total / f32(sizes.D) + sizes.eps);
  if (live) {
    for (var i = lane; i < sizes.D; i += LANES) {
      y[start + i] = x[start + i] * inv_rms * weight[i];
    }
  }
}
