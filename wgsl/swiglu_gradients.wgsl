// Part of both kernels of SwiGLU's backward: what becomes of the gradient dy of silu(gate) up.

// [0]: the gradient of gate, [1]: that of up.
fn gradients(gate: f32, up: f32, dy: f32) -> vec2f {
  let sigmoid = 1.0 / (1.0 + exp(clamp(-gate, -80.0, 80.0)));
  return dy * sigmoid * vec2f(up * (1.0 + gate * (1.0 - sigmoid)), gate);
}
