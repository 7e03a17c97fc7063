// Norm of all gradients from their partial sums, and the factor that clips it: totals[1] = norm, totals[2] = min(1, max_grad_norm / (norm + 1e-6)),
// 0 where the norm or the loss sum totals[0] is not finite (the update is then skipped). One workgroup of LANES lanes. Any adapter.
const LANES = #{LANES}u;
struct Sizes {
  count: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> partials: array<f32>; // [count]
@group(0) @binding(2) var<storage, read> step: array<f32>; // [16]
@group(0) @binding(3) var<storage, read_write> totals: array<f32>; // [16]
#include "reduce_sum.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < sizes.count; i += LANES) {
    sum += partials[i];
  }
  let total = reduce_sum(lane, sum);
  if (lane == 0u) {
    let is_finite = (bitcast<u32>(total) & 0x7f800000u) != 0x7f800000u && (bitcast<u32>(totals[0]) & 0x7f800000u) != 0x7f800000u;
    let norm = sqrt(total);
    totals[1] = norm;
    totals[2] = select(0.0, min(1.0, step[6] / (norm + 1e-6)), is_finite);
  }
}
