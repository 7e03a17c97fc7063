// AdamW over one arena, gradients clipped by totals[2] (0 = skip the update) and zeroed afterwards. One lane per parameter.
// Elements before decayEnd decay. Any adapter; limited by memory bandwidth.
struct Sizes {
  count: u32,
  decayEnd: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> step: array<f32>; // [16]
@group(0) @binding(2) var<storage, read> totals: array<f32>; // [16]
@group(0) @binding(3) var<storage, read_write> parameter: array<f32>; // [count]
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>; // [count]
@group(0) @binding(5) var<storage, read_write> first_moment: array<f32>; // [count]
@group(0) @binding(6) var<storage, read_write> second_moment: array<f32>; // [count]

fn element(i: u32) {
  if (i < sizes.count) {
    let clip = totals[2];
    if (clip > 0.0) {
      let g = gradient[i] * clip;
      let m = step[7] * first_moment[i] + step[9] * g;
      let v = step[8] * second_moment[i] + step[10] * g * g;
      first_moment[i] = m;
      second_moment[i] = v;
      let decay = select(0.0, step[4], i < sizes.decayEnd);
      let kept = parameter[i] * (1.0 - step[1] * decay);
      parameter[i] = kept - step[1] / step[2] * m / (sqrt(v) / sqrt(step[3]) + step[5]);
    }
    gradient[i] = 0.0;
  }
}
#include "elements.wgsl"
