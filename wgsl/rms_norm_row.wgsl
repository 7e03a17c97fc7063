// Part of RMSNorm: which values of which row a lane has. ALONE a lane has a whole row: on a software adapter barriers cost more than that
// its loads lie apart.
#if ALONE
const STEP = 1u;

fn row_of(wg: vec3u, lane: u32) -> u32 {
  return (wg.y * 32768u + wg.x) * LANES + lane;
}

fn first_of(lane: u32) -> u32 {
  return 0u;
}

fn over_row(lane: u32, value: f32) -> f32 {
  return value;
}
#else
const STEP = LANES;
#include "reduce_sum.wgsl"

fn row_of(wg: vec3u, lane: u32) -> u32 {
  return wg.y * 32768u + wg.x;
}

fn first_of(lane: u32) -> u32 {
  return lane;
}

fn over_row(lane: u32, value: f32) -> f32 {
  return reduce_sum(lane, value);
}
#endif
