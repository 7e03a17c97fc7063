// As dora_backward.wgsl, on a software adapter: what lanes read at addresses of their own is gathered number by number there, and a block
// of packed y costs as much as one number of it. So a lane has four columns that are neighbours; LANES of them side by side, a loop over
// all tokens. All lanes read p at one address.
// Grid: column tiles. out is a multiple of 4; with TURNED, headDim of 8.
const LANES = #{LANES}u;
#include "dora_backward_bindings.wgsl"

// Four columns of one row.
fn dy_four(at: u32) -> vec4f {
  return vec4f(dy[at], dy[at + 1u], dy[at + 2u], dy[at + 3u]);
}

fn y_four(at: u32) -> vec4f {
#if Y_BLOCKS
  return unpack_block(y[at / 4u]);
#else
  return vec4f(y[at], y[at + 1u], y[at + 2u], y[at + 3u]);
#endif
}

fn added_four(t: u32, j: u32) -> vec4f {
  let at = t * sizes.out + j;
#if RESIDUAL_BLOCKS
  return y_four(at) - unpack_block(residual[at / 4u]);
#elif RESIDUAL
  return y_four(at) - vec4f(residual[at], residual[at + 1u], residual[at + 2u], residual[at + 3u]);
#elif TURNED
  let half = sizes.headDim / 2u;
  let d = j % sizes.headDim;
  let first = d < half;
  let place = positions[t] * half + select(d - half, d, first);
#for i in 0..4
  let turn#{i} = table[place + #{i}u];
#endfor
  let cos = vec4f(turn0.x, turn1.x, turn2.x, turn3.x);
  let sin = vec4f(turn0.y, turn1.y, turn2.y, turn3.y);
  let partner = y_four(select(at - half, at + half, first));
  return sizes.factor * fma(partner, select(-sin, sin, first), y_four(at) * cos);
#else
  return y_four(at);
#endif
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let own = 4u * (wg.x * LANES + lane);
  let j = min(own, sizes.out - 4u);
#for c in 0..4
  let scale#{c} = scale_of(j + #{c}u);
#endfor
  let bias = vec4f(scale0.y, scale1.y, scale2.y, scale3.y);
  var sum = vec4f();
#if ROUNDED
  var noise = vec4f();
#endif
#for r in 0..RANKS
  var sum#{r} = vec4f();
#endfor
  for (var t = 0u; t < sizes.N; t++) {
    let d = dy_four(t * sizes.out + j);
    sum = fma(d, added_four(t, j) - bias, sum);
#if ROUNDED
    let e = d * step_at(t, j);
    noise = fma(e, e, noise);
#endif
#let STEP = RANKS % 4 == 0 ? 4 : 1
#for q in 0..RANKS / STEP
    let p#{q} = p[t * #{RANKS / STEP}u + #{q}u];
#for i in 0..STEP
#if STEP == 4
    sum#{4 * q + i} = fma(vec4f(p#{q}[#{i}]), d, sum#{4 * q + i});
#else
    sum#{q} = fma(vec4f(p#{q}), d, sum#{q});
#endif
#endfor
#endfor
  }
  if (own >= sizes.out) {
    return;
  }
#for c in 0..4
  let m#{c} = magnitude[j + #{c}u];
  if (m#{c} != 0.0) {
#if ROUNDED
    let total#{c} = resolved(sum[#{c}], noise[#{c}]);
#else
    let total#{c} = sum[#{c}];
#endif
#if RANKS
    gradient[sizes.mAt + j + #{c}u] += total#{c} / m#{c};
#else
    magnitude_gradient[j + #{c}u] += total#{c} / m#{c};
#endif
  }
#for r in 0..RANKS
  gradient[sizes.bAt + (j + #{c}u) * #{RANKS}u + #{r}u] += scale#{c}.x * sum#{r}[#{c}];
#endfor
#endfor
}
