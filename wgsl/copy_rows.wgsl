// y[row + t, i] = x[t, i]: puts rows into a cache. One lane per element. Any adapter; limited by memory bandwidth.
struct Sizes {
  count: u32, // N * width
  offset: u32, // row * width
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [N, width]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, width]

fn element(i: u32) {
  if (i < sizes.count) {
    y[sizes.offset + i] = x[i];
  }
}
#include "elements.wgsl"
