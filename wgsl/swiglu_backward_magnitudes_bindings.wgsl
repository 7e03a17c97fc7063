// Sizes and bindings of both variants of swiglu_backward_magnitudes. GATE, UP: the module has a magnitude; GATE_BIAS, UP_BIAS: a bias too.
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

// Biases of gate and up.
fn biases_of(j: u32) -> vec2f {
  var bias = vec2f();
#if GATE_BIAS
  bias[0] = scale_bias_gate[j].y;
#endif
#if UP_BIAS
  bias[1] = scale_bias_up[j].y;
#endif
  return bias;
}

// Adds what a column's sums come to.
fn add(j: u32, sums: vec2f) {
#if GATE
  if (m_gate[j] != 0.0) {
    gradient[sizes.gateAt + j] += sums[0] / m_gate[j];
  }
#endif
#if UP
  if (m_up[j] != 0.0) {
    gradient[sizes.upAt + j] += sums[1] / m_up[j];
  }
#endif
}
