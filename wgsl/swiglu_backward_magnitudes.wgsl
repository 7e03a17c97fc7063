// As swiglu_backward.wgsl, and the gradients of the DoRA magnitudes of the modules that made gate and up: += sum over tokens of
// d_gate (gate - bias) / m, and the same of up.
// One column a lane, LANES of them side by side; the ROWS of a workgroup share the tokens, TOKENS at a time: they are loaded before the
// first one is overwritten. Grid: column tiles. Any adapter; limited by memory bandwidth. The order of the sums is fixed.
const LANES = #{LANES}u;
#include "swiglu_backward_magnitudes_bindings.wgsl"
#include "sum_rows.wgsl"

@compute @workgroup_size(#{LANES * ROWS})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let own = wg.x * LANES + lane % LANES;
  let j = min(own, sizes.width - 1u);
  let tokens = select(0u, sizes.N, own < sizes.width); // none beyond the last column
  let bias = biases_of(j);
  var sums = vec2f();
  for (var t = lane / LANES * #{TOKENS}u; t < tokens; t += #{ROWS * TOKENS}u) {
#for u in 0..TOKENS
    let is#{u} = t + #{u}u < tokens;
    let at#{u} = select(t, t + #{u}u, is#{u}) * sizes.width + j;
    let both#{u} = vec2f(gate[at#{u}], up[at#{u}]);
    let dy#{u} = select(0.0, d[at#{u}], is#{u});
#endfor
#for u in 0..TOKENS
    {
      let made = gradients(both#{u}[0], both#{u}[1], dy#{u});
      sums = fma(made, both#{u} - bias, sums);
      if (is#{u}) {
        gate[at#{u}] = made[0];
        d[at#{u}] = made[1];
      }
    }
#endfor
  }
  parts[lane] = sums[0];
  parts[PITCH + lane] = sums[1];
  workgroupBarrier();
  if (lane < LANES && own < sizes.width) {
    add(own, vec2f(over_rows(0u, lane), over_rows(1u, lane)));
  }
}
