// Sum over the LANES lanes of a workgroup, the same value for all of them. LANES is a power of two. Uniform control flow only.
var<workgroup> reduce_scratch: array<f32, LANES>;
fn reduce_sum(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  reduce_scratch[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      reduce_scratch[lane] += reduce_scratch[lane + half];
    }
  }
  workgroupBarrier();
  return reduce_scratch[0];
}
