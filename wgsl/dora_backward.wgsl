// e = g dy into dy (OVER_Y: into y), magnitude_gradient_j += sum over tokens of dy (y - residual - bias_j) / m_j: with y = g u + bias + residual
// that is dy u / c. With TURNED, y was turned by RoPE (rope.wgsl) and is turned back. With Y_BLOCKS, y lies in blocks of four
// (block_float.wgsl). With RANKS, the gradient of B comes of the same pass: += eT p; gradient is the arena, which has both.
// COLS columns a lane, LANES of them side by side, ROWS times TOKENS tokens at a time per workgroup, a loop over all tokens.
// Grid: column tiles. Any adapter; limited by memory bandwidth. The order of the sums is fixed.
const LANES = #{LANES}u;
const ROWS = #{ROWS}u;
struct Sizes {
  N: u32,
  out: u32,
#if TURNED
  headDim: u32,
  factor: f32, // undoes the table's scale
#endif
#if RANKS
  bAt: u32, // element of gradient at which that of B [out, RANKS] begins
  mAt: u32, // that of m [out]
#endif
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if OVER_Y
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [N, out]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [N, out]
#else
@group(0) @binding(1) var<storage, read_write> dy: array<f32>; // [N, out]
#if Y_BLOCKS
@group(0) @binding(2) var<storage, read> y: array<vec2u>; // [N, out / 4] blocks of four
#else
@group(0) @binding(2) var<storage, read> y: array<f32>; // [N, out]
#endif
#endif
#if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [N, out]
#endif
#if SCALE_ONLY
@group(0) @binding(4) var<storage, read> scale_bias: array<f32>; // [out] g
#else
@group(0) @binding(4) var<storage, read> scale_bias: array<vec2f>; // [out] g, bias
#endif
@group(0) @binding(5) var<storage, read> magnitude: array<f32>; // [out]
#if RANKS
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>; // the arena
#if RANKS % 4 == 0
@group(0) @binding(9) var<storage, read> p: array<vec4f>; // [N, RANKS / 4]
#else
@group(0) @binding(9) var<storage, read> p: array<f32>; // [N, RANKS]
#endif
#else
@group(0) @binding(6) var<storage, read_write> magnitude_gradient: array<f32>; // [out]
#endif
#if TURNED
@group(0) @binding(7) var<storage, read> positions: array<u32>; // [N]
@group(0) @binding(8) var<storage, read> table: array<vec2f>; // [positions, headDim / 2] cos, sin
#endif
#if Y_BLOCKS
#include "block_float.wgsl"
#endif
#if ROWS > 1
var<workgroup> sums: array<f32, #{LANES * ROWS}>; // [ROWS, LANES]
#endif

fn y_stored(at: u32) -> f32 {
#if Y_BLOCKS
  return unpack_block(y[at / 4u])[at % 4u];
#else
  return y[at];
#endif
}

fn y_at(t: u32, j: u32) -> f32 {
  let at = t * sizes.out + j;
#if TURNED
  let half = sizes.headDim / 2u;
  let d = j % sizes.headDim;
  let first = d < half;
  let turn = table[positions[t] * half + select(d - half, d, first)];
  let partner = y_stored(select(at - half, at + half, first));
  return sizes.factor * fma(partner, select(-turn.y, turn.y, first), y_stored(at) * turn.x);
#else
  return y_stored(at);
#endif
}

// The sum over the rows of a workgroup, for the lanes of its first row. Uniform control flow only.
fn over_rows(lane: u32, value: f32) -> f32 {
#if ROWS > 1
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  var sum = value;
  for (var row = 1u; row < ROWS; row++) {
    sum += sums[row * LANES + lane % LANES];
  }
  return sum;
#else
  return value;
#endif
}

@compute @workgroup_size(#{LANES * ROWS})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
#for c in 0..COLS
  let column#{c} = (wg.x * #{COLS}u + #{c}u) * LANES + lane % LANES;
  let j#{c} = min(column#{c}, sizes.out - 1u);
#if SCALE_ONLY
  let scale#{c} = vec2f(scale_bias[j#{c}], 0.0);
#else
  let scale#{c} = scale_bias[j#{c}];
#endif
  var sum#{c} = 0.0;
#for r in 0..RANKS
  var sum#{c}_#{r} = 0.0;
#endfor
#endfor
#if ROWS > 1
  for (var t = lane / LANES * #{TOKENS}u; t < sizes.N; t += #{ROWS * TOKENS}u) {
#else
  for (var t = 0u; t < sizes.N; t += #{TOKENS}u) {
#endif
#for c in 0..COLS
#for u in 0..TOKENS
    var e#{c}_#{u} = 0.0;
#if TOKENS > 1
    if (column#{c} < sizes.out && t + #{u}u < sizes.N) {
#else
    if (column#{c} < sizes.out) {
#endif
      let at = (t + #{u}u) * sizes.out + j#{c};
      let d = dy[at];
#if RESIDUAL
      sum#{c} = fma(d, y_at(t + #{u}u, j#{c}) - residual[at] - scale#{c}.y, sum#{c});
#else
      sum#{c} = fma(d, y_at(t + #{u}u, j#{c}) - scale#{c}.y, sum#{c});
#endif
      e#{c}_#{u} = scale#{c}.x * d;
#if OVER_Y
      y[at] = e#{c}_#{u};
#else
      dy[at] = e#{c}_#{u};
#endif
    }
#endfor
#endfor
#if RANKS
#for u in 0..TOKENS
#if TOKENS > 1
    let row#{u} = min(t + #{u}u, sizes.N - 1u);
#else
    let row#{u} = t;
#endif
#endfor
#let STEP = RANKS % 4 == 0 ? 4 : 1
#for q in 0..RANKS / STEP
    {
#for u in 0..TOKENS
      let p#{u} = p[row#{u} * #{RANKS / STEP}u + #{q}u];
#endfor
#for i in 0..STEP
#for c in 0..COLS
#for u in 0..TOKENS
#if STEP == 4
      sum#{c}_#{4 * q + i} = fma(p#{u}[#{i}], e#{c}_#{u}, sum#{c}_#{4 * q + i});
#else
      sum#{c}_#{q} = fma(p#{u}, e#{c}_#{u}, sum#{c}_#{q});
#endif
#endfor
#endfor
#endfor
    }
#endfor
#endif
  }
#for c in 0..COLS
  sum#{c} = over_rows(lane, sum#{c});
#for r in 0..RANKS
  sum#{c}_#{r} = over_rows(lane, sum#{c}_#{r});
#endfor
  if (lane < LANES && column#{c} < sizes.out) {
    let m = magnitude[j#{c}];
    if (m != 0.0) {
#if RANKS
      gradient[sizes.mAt + j#{c}] += sum#{c} / m;
#else
      magnitude_gradient[j#{c}] += sum#{c} / m;
#endif
    }
#for r in 0..RANKS
    gradient[sizes.bAt + j#{c} * #{RANKS}u + #{r}u] += sum#{c}_#{r};
#endfor
  }
#endfor
}
