// totals[0] += sum of token_loss[0 .. N]. One workgroup of LANES lanes. Any adapter; a few microseconds.
const LANES = #{LANES}u;
struct Sizes {
  N: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> token_loss: array<f32>; // [N]
@group(0) @binding(2) var<storage, read_write> totals: array<f32>; // [16]
#include "reduce_sum.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var t = lane; t < sizes.N; t += LANES) {
    sum += token_loss[t];
  }
  let total = reduce_sum(lane, sum);
  if (lane == 0u) {
    totals[0] += total;
  }
}
