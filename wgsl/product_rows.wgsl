// Part of all products: four neighbouring values of a row of x, or of p. Rows past N repeat the last one; past a row's end
// the values are zero, so that it does not matter what the weights are there.

// Where a row of x starts.
fn x_start(row: u32) -> u32 {
  return (sizes.xRow + min(row, sizes.N - 1u)) * sizes.xStride + sizes.xColumn;
}

fn load_x_from(start: u32, k: u32) -> vec4f {
  let at = start + k;
#if X_VEC4
  return select(vec4f(), x[at / 4u], k < sizes.K);
#else
  return vec4f(
    select(0.0, x[at], k < sizes.K), select(0.0, x[at + 1u], k + 1u < sizes.K),
    select(0.0, x[at + 2u], k + 2u < sizes.K), select(0.0, x[at + 3u], k + 3u < sizes.K));
#endif
}

fn load_x(row: u32, k: u32) -> vec4f {
  return load_x_from(x_start(row), k);
}
#if LOWRANK

// Where a row of p starts.
fn p_start(row: u32) -> u32 {
  return min(row, sizes.N - 1u) * sizes.rank;
}

fn load_p(row: u32, r: u32) -> vec4f {
  return load_p_from(p_start(row), r);
}

fn load_p_from(start: u32, r: u32) -> vec4f {
  let at = start + r;
  return vec4f(
    select(0.0, p[at], r < sizes.rank), select(0.0, p[at + 1u], r + 1u < sizes.rank),
    select(0.0, p[at + 2u], r + 2u < sizes.rank), select(0.0, p[at + 3u], r + 3u < sizes.rank));
}
#endif
