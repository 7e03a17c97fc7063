// As dora_backward.wgsl, on a software adapter: it has few cores, all lanes of a workgroup read p at one address, and several tokens share
// the reading of sums. One column a lane, LANES of them side by side, TOKENS tokens at a time, a loop over all tokens.
// Grid: column tiles.
const LANES = #{LANES}u;
#include "dora_backward_load.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = wg.x * LANES + lane;
  let j = min(column, sizes.out - 1u);
  let bias = scale_of(j).y;
  var sum = 0.0;
#if Y_BLOCKS && RESIDUAL
  var noise = 0.0;
#endif
#for r in 0..RANKS
  var sum#{r} = 0.0;
#endfor
  for (var t = 0u; t < sizes.N; t += #{TOKENS}u) {
#for u in 0..TOKENS
    let row#{u} = min(t + #{u}u, sizes.N - 1u);
    let isRow#{u} = t + #{u}u < sizes.N;
    let at#{u} = row#{u} * sizes.out + j;
    let d#{u} = select(0.0, dy[at#{u}], isRow#{u});
    sum = fma(d#{u}, added_at(row#{u}, j) - bias, sum);
#if Y_BLOCKS && RESIDUAL
    let e#{u} = d#{u} * step_at(row#{u}, j);
    noise = fma(e#{u}, e#{u}, noise);
#endif
#endfor
#if RANKS
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
#endif
  }
  if (column < sizes.out) {
#if Y_BLOCKS && RESIDUAL
    sum = resolved(sum, noise);
#endif
    let m = magnitude[j];
    if (m != 0.0) {
#if RANKS
      gradient[sizes.mAt + j] += sum / m;
#else
      magnitude_gradient[j] += sum / m;
#endif
    }
#for r in 0..RANKS
    gradient[sizes.bAt + j * #{RANKS}u + #{r}u] += scale_of(j).x * sum#{r};
#endfor
  }
}
