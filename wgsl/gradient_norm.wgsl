// partials[slot * PARTIALS + i] = sum of the squares of every PARTIALS-th piece of PIECE gradients. One workgroup per partial.
// Any adapter; limited by memory bandwidth. The order of the sums is fixed, so that runs repeat bit by bit.
const LANES = #{LANES}u;
#let STRIDE = PARTIALS * PIECE
#let EACH = PIECE / LANES
#let PIECES = Math.max(1, 4 / EACH)
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
  // At least four loads at a time: they do not wait for one another.
  for (var i = wg.x * #{PIECE}u + lane; i < sizes.count; i += #{PIECES * STRIDE}u) {
#for p in 0..PIECES
#for e in 0..EACH
    let i#{p}_#{e} = i + #{p * STRIDE + e * LANES}u;
    let v#{p}_#{e} = select(0.0, gradient[min(i#{p}_#{e}, sizes.count - 1u)], i#{p}_#{e} < sizes.count);
#endfor
#endfor
#for p in 0..PIECES
#for e in 0..EACH
    sum = fma(v#{p}_#{e}, v#{p}_#{e}, sum);
#endfor
#endfor
  }
  let total = reduce_sum(lane, sum);
  if (lane == 0u) {
    partials[sizes.slot * #{PARTIALS}u + wg.x] = total;
  }
}
