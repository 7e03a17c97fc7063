// As dora_backward.wgsl, on a software adapter: it has few cores, all lanes of a workgroup read p at one address, and several tokens share
// the reading of sums. COLS columns a lane, LANES of them side by side, TOKENS tokens at a time, a loop over all tokens.
// Grid: column tiles.
const LANES = #{LANES}u;
#include "dora_backward_load.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
#for c in 0..COLS
  let column#{c} = (wg.x * #{COLS}u + #{c}u) * LANES + lane;
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
  for (var t = 0u; t < sizes.N; t += #{TOKENS}u) {
#for c in 0..COLS
#for u in 0..TOKENS
    var e#{c}_#{u} = 0.0;
    if (column#{c} < sizes.out && t + #{u}u < sizes.N) {
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
    let row#{u} = min(t + #{u}u, sizes.N - 1u);
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
  if (column#{c} < sizes.out) {
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
