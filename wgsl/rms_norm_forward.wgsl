// RMSNorm forward: y = x / sqrt(mean(x^2) + eps) * weight. One workgroup of LANES lanes per row, or ALONE a lane.
// x, y [rows, D]; weight [D]. Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  rows: u32,
  D: u32,
  eps: f32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#include "rms_norm_load.wgsl"
@group(0) @binding(2) var<storage, read> weight: array<Value>; // [D]
@group(0) @binding(3) var<storage, read_write> y: array<Value>; // [rows, D]
#include "rms_norm_row.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = row_of(wg, lane);
  let live = row < sizes.rows;
  let width = sizes.D / WIDTH;
  let start = select(0u, row * width, live);
  var squares = Value();
  for (var i = first_of(lane); i < width; i += STEP) {
    let value = x_at(start + i);
    squares += value * value;
  }
  let mean = over_row(lane, total(squares)) / f32(sizes.D) + sizes.eps;
  let inv_rms = 1.0 / sqrt(mean);
  if (live) {
    for (var i = first_of(lane); i < width; i += STEP) {
      y[start + i] = x_at(start + i) * inv_rms * weight[i];
    }
  }
}
