// gate and d, the gradient of silu(gate) up, become the gradients of gate, d up silu'(gate), and of up, d silu(gate).
// One lane per element. Any adapter; limited by memory bandwidth.
struct Sizes {
  count: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>; // [count]
@group(0) @binding(2) var<storage, read> up: array<f32>; // [count]
@group(0) @binding(3) var<storage, read_write> d: array<f32>; // [count]
#include "swiglu_gradients.wgsl"

fn element(i: u32) {
  if (i < sizes.count) {
    let made = gradients(gate[i], up[i], d[i]);
    gate[i] = made[0];
    d[i] = made[1];
  }
}
#include "elements.wgsl"
