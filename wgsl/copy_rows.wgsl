// y[row + t, i] = x[t, i]: puts rows into a cache. One lane per element. Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  count: u32, // N * width
  offset: u32, // row * width
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [N, width]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, width]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wg.y * 32768u + wg.x) * LANES + lane;
  if (i < sizes.count) {
    y[sizes.offset + i] = x[i];
  }
}
