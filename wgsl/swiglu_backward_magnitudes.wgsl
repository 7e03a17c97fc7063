// As swiglu_backward.wgsl, and the gradients of the DoRA magnitudes of the modules that made gate (GATE) and up (UP):
// += sum over tokens of d_gate (gate - bias) / m, and the same of up. GATE_BIAS, UP_BIAS: the module has a bias.
// One column a lane, LANES of them side by side; the ROWS of a workgroup share the tokens, TOKENS at a time: they are loaded before the
// first one is overwritten. Grid: column tiles. Any adapter; limited by memory bandwidth. The order of the sums is fixed.
const LANES = #{LANES}u;
struct Sizes {
  N: u32,
  width: u32,
#if GATE
  gateAt: u32, // element of gradient at which that of gate's magnitude begins
#endif
#if UP
  upAt: u32,
#endif
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>; // [N, width]
@group(0) @binding(2) var<storage, read> up: array<f32>; // [N, width]
@group(0) @binding(3) var<storage, read_write> d: array<f32>; // [N, width]
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>; // the arena
#if GATE
@group(0) @binding(5) var<storage, read> m_gate: array<f32>; // [width]
#endif
#if GATE_BIAS
@group(0) @binding(6) var<storage, read> scale_bias_gate: array<vec2f>; // [width] g, bias
#endif
#if UP
@group(0) @binding(7) var<storage, read> m_up: array<f32>; // [width]
#endif
#if UP_BIAS
@group(0) @binding(8) var<storage, read> scale_bias_up: array<vec2f>; // [width] g, bias
#endif
#include "swiglu_gradients.wgsl"
#include "sum_rows.wgsl"

@compute @workgroup_size(#{LANES * ROWS})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let own = wg.x * LANES + lane % LANES;
  let j = min(own, sizes.width - 1u);
  let tokens = select(0u, sizes.N, own < sizes.width); // none beyond the last column
  var bias = vec2f();
#if GATE_BIAS
  bias[0] = scale_bias_gate[j].y;
#endif
#if UP_BIAS
  bias[1] = scale_bias_up[j].y;
#endif
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
#if GATE
    if (m_gate[own] != 0.0) {
      gradient[sizes.gateAt + own] += over_rows(0u, lane) / m_gate[own];
    }
#endif
#if UP
    if (m_up[own] != 0.0) {
      gradient[sizes.upAt + own] += over_rows(1u, lane) / m_up[own];
    }
#endif
  }
}
