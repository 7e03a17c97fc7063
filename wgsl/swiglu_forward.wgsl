// y = silu(gate) * up. One lane per element. Any adapter; limited by memory bandwidth.
struct Sizes {
  count: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> gate: array<f32>; // [count]
@group(0) @binding(2) var<storage, read> up: array<f32>; // [count]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [count]

fn element(i: u32) {
  if (i < sizes.count) {
    let g = gate[i];
    y[i] = g / (1.0 + exp(clamp(-g, -80.0, 80.0))) * up[i];
  }
}
#include "elements.wgsl"
