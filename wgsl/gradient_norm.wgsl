// partials[slot * PARTIALS + i] = sum of the squares of every PARTIALS-th piece of LANES gradients. One workgroup per partial.
// Any adapter; limited by memory bandwidth. The order of the sums is fixed, so that runs repeat bit by bit.
const LANES = #{LANES}u;
const PARTIALS = #{PARTIALS}u;
struct Sizes {
  count: u32,
  slot: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> gradient: array<f32>; // [count]
@group(0) @binding(2) var<storage, read_write> partials: array<f32>; // [slots * PARTIALS]
#include "reduce_sum.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  // Four pieces at a time: their loads do not wait for one another.
  for (var i = wg.x * LANES + lane; i < sizes.count; i += 4u * PARTIALS * LANES) {
#for u in 0..4
    let i#{u} = i + #{u}u * PARTIALS * LANES;
    let v#{u} = select(0.0, gradient[min(i#{u}, sizes.count - 1u)], i#{u} < sizes.count);
#endfor
#for u in 0..4
    sum = fma(v#{u}, v#{u}, sum);
#endfor
  }
  let total = reduce_sum(lane, sum);
  if (lane == 0u) {
    partials[sizes.slot * PARTIALS + wg.x] = total;
  }
}
