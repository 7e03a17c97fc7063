// Maximum over the LANES lanes of a workgroup, the same value for all of them. After reduce_sum.wgsl, whose memory it uses.
fn reduce_max(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  reduce_scratch[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      reduce_scratch[lane] = max(reduce_scratch[lane], reduce_scratch[lane + half]);
    }
  }
  workgroupBarrier();
  return reduce_scratch[0];
}
