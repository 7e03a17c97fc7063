// Four values d .. d + 3 of a head that starts at element `at`; zero past D.
#if VEC4
fn load_q(at: u32, d: u32) -> vec4f {
  return select(vec4f(), q_quad((at + d) / 4u), d < D);
}
fn load_k(at: u32, d: u32) -> vec4f {
  return select(vec4f(), k_quad((at + d) / 4u), d < D);
}
fn load_v(at: u32, d: u32) -> vec4f {
  return select(vec4f(), v_quad((at + d) / 4u), d < D);
}
#if BACKWARD
fn load_d_o(at: u32, d: u32) -> vec4f {
  return select(vec4f(), d_o_quad((at + d) / 4u), d < D);
}
#endif
#else
fn inside(d: u32) -> vec4<bool> {
  return vec4u(d, d + 1u, d + 2u, d + 3u) < vec4u(D);
}
fn load_q(at: u32, d: u32) -> vec4f {
  let i = at + d;
  return select(vec4f(), vec4f(q[i], q[i + 1u], q[i + 2u], q[i + 3u]), inside(d));
}
fn load_k(at: u32, d: u32) -> vec4f {
  let i = at + d;
  return select(vec4f(), vec4f(k[i], k[i + 1u], k[i + 2u], k[i + 3u]), inside(d));
}
fn load_v(at: u32, d: u32) -> vec4f {
  let i = at + d;
  return select(vec4f(), vec4f(v[i], v[i + 1u], v[i + 2u], v[i + 3u]), inside(d));
}
#if BACKWARD
fn load_d_o(at: u32, d: u32) -> vec4f {
  let i = at + d;
  return select(vec4f(), vec4f(d_o[i], d_o[i + 1u], d_o[i + 2u], d_o[i + 3u]), inside(d));
}
#endif
#endif
