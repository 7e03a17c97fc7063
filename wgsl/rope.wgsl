// Rotary embedding in place: (x1, x2) = factor (x1 cos - x2 sin, x2 cos + x1 sin), sin negated with direction -1; x1 in the first
// half of a head, x2 in the second. One lane per pair. Any adapter; limited by memory bandwidth.
const LANES = #{LANES}u;
struct Sizes {
  N: u32,
  heads: u32,
  headDim: u32,
  direction: f32, // 1 or -1
  factor: f32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [N]
@group(0) @binding(2) var<storage, read> table: array<vec2f>; // [positions, headDim / 2] cos, sin
@group(0) @binding(3) var<storage, read_write> x: array<f32>; // [N, heads * headDim]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let half = sizes.headDim / 2u;
  let pair = (wg.y * 32768u + wg.x) * LANES + lane;
  if (pair < sizes.N * sizes.heads * half) {
    let i = pair % half;
    let head = pair / half; // of all tokens
    let turn = table[positions[head / sizes.heads] * half + i] * vec2f(1.0, sizes.direction) * sizes.factor;
    let at = head * sizes.headDim + i;
    let x1 = x[at];
    let x2 = x[at + half];
    x[at] = x1 * turn.x - x2 * turn.y;
    x[at + half] = x2 * turn.x + x1 * turn.y;
  }
}
