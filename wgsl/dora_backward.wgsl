// magnitude_gradient_j += sum over tokens of dy (y - residual - bias_j) / m_j: with y = g u + bias + residual that is dy u / c. With TURNED,
// y was turned by RoPE (rope.wgsl) and is turned back. With Y_BLOCKS and RESIDUAL_BLOCKS, they lie in blocks of four
// (block_float.wgsl). With RANKS, the gradient of B comes of the same pass: += g dyT p; gradient is the arena, which has both.
// One column a lane, LANES of them side by side; the ROWS of a workgroup share the tokens, TOKENS at a time.
// Grid: column tiles. Any adapter; limited by memory bandwidth. The order of the sums is fixed.
const LANES = #{LANES}u;
#include "dora_backward_bindings.wgsl"
#include "sum_rows.wgsl"

fn y_stored(at: u32) -> f32 {
#if Y_BLOCKS
  return unpack_value(y[at / 4u], at % 4u);
#else
  return y[at];
#endif
}

// What the module added to the residual.
fn added_at(t: u32, j: u32) -> f32 {
  let at = t * sizes.out + j;
#if RESIDUAL_BLOCKS
  return y_stored(at) - unpack_value(residual[at / 4u], at % 4u);
#elif RESIDUAL
  return y_stored(at) - residual[at];
#elif TURNED
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

@compute @workgroup_size(#{LANES * ROWS})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let own = wg.x * LANES + lane % LANES;
  let j = min(own, sizes.out - 1u);
  let bias = scale_of(j).y;
  var sum = 0.0;
#if ROUNDED
  var noise = 0.0;
#endif
#for r in 0..RANKS
  var sum#{r} = 0.0;
#endfor
  for (var t = lane / LANES * #{TOKENS}u; t < sizes.N; t += #{ROWS * TOKENS}u) {
#for u in 0..TOKENS
    let row#{u} = min(t + #{u}u, sizes.N - 1u);
    let at#{u} = row#{u} * sizes.out + j;
    let d#{u} = select(0.0, dy[at#{u}], t + #{u}u < sizes.N);
    let v#{u} = added_at(row#{u}, j) - bias;
#endfor
#for u in 0..TOKENS
    sum = fma(d#{u}, v#{u}, sum);
#if ROUNDED
    let e#{u} = d#{u} * step_at(row#{u}, j);
    noise = fma(e#{u}, e#{u}, noise);
#endif
#endfor
#let STEP = RANKS % 4 == 0 ? 4 : 1
#for q in 0..RANKS / STEP
    {
#for u in 0..TOKENS
      let p#{u} = p[row#{u} * #{RANKS / STEP}u + #{q}u];
#endfor
#for i in 0..STEP
#for u in 0..TOKENS
#if STEP == 4
      sum#{4 * q + i} = fma(p#{u}[#{i}], d#{u}, sum#{4 * q + i});
#else
      sum#{q} = fma(p#{u}, d#{u}, sum#{q});
#endif
#endfor
#endfor
    }
#endfor
  }
  parts[lane] = sum;
#if ROUNDED
  parts[PITCH + lane] = noise;
#endif
  workgroupBarrier();
  if (lane < LANES && own < sizes.out) {
    let m = magnitude[j];
    if (m != 0.0) {
#if ROUNDED
      let total = resolved(over_rows(0u, lane), over_rows(1u, lane));
#else
      let total = over_rows(0u, lane);
#endif
#if RANKS
      gradient[sizes.mAt + j] += total / m;
#else
      magnitude_gradient[j] += total / m;
#endif
    }
  }
  // Neighbours write neighbours.
  let r = lane % 8u;
  let c = lane / 8u;
  let column = wg.x * LANES + c;
#for piece in 0..Math.ceil(RANKS / 8)
#let COUNT = Math.min(8, RANKS - 8 * piece)
  workgroupBarrier();
#for i in 0..COUNT
  parts[#{i}u * PITCH + lane] = sum#{8 * piece + i};
#endfor
  workgroupBarrier();
  if (r < #{COUNT}u && c < LANES && column < sizes.out) {
    gradient[sizes.bAt + column * #{RANKS}u + #{8 * piece}u + r] += scale_of(column).x * over_rows(r, c);
  }
#endfor
}
