// d_gate = d up silu'(gate), and d, the gradient of y, becomes that of up: d silu(gate). One lane per element. Any adapter;
// limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  count: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> gate: array<f32>; // [count]
@group(0) @binding(2) var<storage, read> up: array<f32>; // [count]
@group(0) @binding(3) var<storage, read_write> d: array<f32>; // [count]
@group(0) @binding(4) var<storage, read_write> d_gate: array<f32>; // [count]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wg.y * 32768u + wg.x) * LANES + lane;
  if (i < sizes.count) {
    let g = gate[i];
    let sigmoid = 1.0 / (1.0 + exp(clamp(-g, -80.0, 80.0)));
    let dy = d[i];
    d_gate[i] = dy * up[i] * sigmoid * (1.0 + g * (1.0 - sigmoid));
    d[i] = dy * g * sigmoid;
  }
}
