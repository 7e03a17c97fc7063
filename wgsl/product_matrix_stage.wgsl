// Part of product_matrix.wgsl: the scales, and the tiles of x, p, W and B as f16.

fn power_of_two(field: u32) -> f32 {
  return bitcast<f32>(field << 23u);
}

// Exponent bits of the power of two that brings a largest magnitude, given by its bits, to [2^aim, 2^(aim + 1)); 1 .. 253, so
// that its inverse (254 minus it) is a normal number too.
fn scale_field(bits: u32, aim: u32) -> u32 {
  return min(254u + aim - min(bits >> 23u, 253u), 253u);
}

fn largest(v: vec4f) -> f32 {
  let magnitude = abs(v);
  return max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
}

// DEPTH / 4 lanes read a row side by side; each has ROWS / STEP rows.
fn find_row_max(lane: u32, row0: u32, b_field: u32) {
  let row = lane / #{DEPTH / 4}u;
#for s in 0..ROWS / STEP
  var largest#{s} = 0.0;
#endfor
#if LOWRANK
  let inverse = power_of_two(254u - b_field);
  for (var r = lane % #{DEPTH / 4}u * 4u; r < sizes.rank; r += DEPTH) {
#for s in 0..ROWS / STEP
    largest#{s} = max(largest#{s}, largest(load_p(row0 + row + #{s * STEP}u, r)) * inverse);
#endfor
  }
#endif
  for (var k = lane % #{DEPTH / 4}u * 4u; k < sizes.K; k += DEPTH) {
#for s in 0..ROWS / STEP
    largest#{s} = max(largest#{s}, largest(load_x(row0 + row + #{s * STEP}u, k)));
#endfor
  }
#for s in 0..ROWS / STEP
  atomicMax(&row_max[row + #{s * STEP}u], bitcast<u32>(largest#{s}));
#endfor
}

#if X_TERMS == 2

// The first 11 bits, which f16 holds. Compilers may take a conversion to f16 and back for nothing, so it is none.
fn first_bits(v: vec4f) -> vec4f {
  return bitcast<vec4f>((bitcast<vec4u>(v) + vec4u(0x1000u)) & vec4u(0xffffe000u));
}
#endif

fn store_x(row: u32, k: u32, v: vec4f) {
  let at = row % #{X_PART}u * STRIDE + k % #{MATRIX_K}u;
  let slice = k / #{MATRIX_K}u;
#if X_TERMS == 2
  let first = first_bits(v);
  let half = vec4<f16>(first);
  let rest = vec4<f16>(v - first);
#for i in 0..4
  x_tile[#{SLICES}u + slice][row / #{X_PART}u][at + #{i}u] = rest[#{i}];
#endfor
#else
  let half = vec4<f16>(v);
#endif
#for i in 0..4
  x_tile[slice][row / #{X_PART}u][at + #{i}u] = half[#{i}];
#endfor
}
#if BACKWARD
#let GROUPS = DEPTH / TERMS
#let PASS_COLUMNS = LANES / GROUPS * 8
#let PASSES = COLUMNS / PASS_COLUMNS

// TERMS terms of eight columns, turned so that a column's terms lie side by side.
fn store_w(column: u32, k: u32, columns: array<mat2x4f, #{TERMS}>) {
  let at = column % #{W_PART}u * STRIDE + k % #{MATRIX_K}u;
#for i in 0..8
#for t in 0..TERMS
  w_tile[k / #{MATRIX_K}u][column / #{W_PART}u][at + #{i}u * STRIDE + #{t}u] = f16(columns[#{t}][#{i >> 2}][#{i & 3}]);
#endfor
#endfor
}

fn stage_w(lane: u32, column0: u32, k0: u32) {
  let k = lane % #{GROUPS}u * #{TERMS}u;
#for pass in 0..PASSES
  {
    let column = lane / #{GROUPS}u * 8u + #{pass * PASS_COLUMNS}u;
    var columns: array<mat2x4f, #{TERMS}>;
#for t in 0..TERMS
    columns[#{t}] = load_eight(min(k0 + k + #{t}u, sizes.K - 1u), column0 + column, sizes.M);
#endfor
    store_w(column, k, columns);
  }
#endfor
}
#else
#let PARTS = Math.max(1, LANES / COLUMNS)
#let ROUNDS = Math.max(1, COLUMNS / LANES)
#let EACH = DEPTH / 8 / PARTS

// Eight terms of a column.
fn store_w(column: u32, k: u32, v: mat2x4f) {
  let at = column % #{W_PART}u * STRIDE + k % #{MATRIX_K}u;
  let slice = k / #{MATRIX_K}u;
#for h in 0..2
  {
#if W_TERMS == 2
    let first = first_bits(v[#{h}]);
    let half = vec4<f16>(first);
    let rest = vec4<f16>(v[#{h}] - first);
#for i in 0..4
    w_tile[#{SLICES}u + slice][column / #{W_PART}u][at + #{4 * h + i}u] = rest[#{i}];
#endfor
#else
    let half = vec4<f16>(v[#{h}]);
#endif
#for i in 0..4
    w_tile[slice][column / #{W_PART}u][at + #{4 * h + i}u] = half[#{i}];
#endfor
  }
#endfor
}

fn stage_w(lane: u32, column0: u32, k0: u32) {
#for c in 0..ROUNDS
  {
    let column = lane / #{PARTS}u + #{c * LANES}u;
    let k = lane % #{PARTS}u * #{8 * EACH}u;
    let row = min(column0 + column, sizes.M - 1u);
#if ALIGNED && BLOCK % DEPTH == 0
    let scale = block_scale((row * sizes.K + k0 + k) / #{BLOCK}u);
#for e in 0..EACH
    store_w(column, k + #{8 * e}u, scale * decode_eight(load_codes(row, k0 + k + #{8 * e}u, sizes.K)));
#endfor
#else
#for e in 0..EACH
    store_w(column, k + #{8 * e}u, load_eight(row, k0 + k + #{8 * e}u, sizes.K));
#endfor
#endif
  }
#endfor
}
#endif
#if LOWRANK

// Four neighbouring values of a row of b; terms past the rank are zero.
fn load_b(row: u32, column: u32, length: u32) -> vec4f {
  let at = row * length + column;
#if B_VEC4
  return b[at / 4u];
#else
  return vec4f(b[at], b[at + 1u], b[at + 2u], b[at + 3u]);
#endif
}

fn terms(r: u32, v: vec4f) -> vec4f {
  return select(vec4f(), v, vec4u(r, r + 1u, r + 2u, r + 3u) < vec4u(sizes.rank));
}

fn find_b_max(lane: u32, column0: u32) {
  var most = 0.0;
#if BACKWARD
  for (var i = lane; i < #{COLUMNS / 4}u * sizes.rank; i += LANES) {
    most = max(most, largest(load_b(i / #{COLUMNS / 4}u, min(column0 + i % #{COLUMNS / 4}u * 4u, sizes.M - 1u), sizes.M)));
  }
#else
  let quads = (sizes.rank + 3u) / 4u;
  for (var i = lane; i < COLUMNS * quads; i += LANES) {
    let r = i % quads * 4u;
    most = max(most, largest(terms(r, load_b(min(column0 + i / quads, sizes.M - 1u), r, sizes.rank))));
  }
#endif
  atomicMax(&b_max[0], bitcast<u32>(most));
}

fn stage_b(lane: u32, column0: u32, r0: u32, scale: f32) {
#if BACKWARD
  let k = lane % #{GROUPS}u * #{TERMS}u;
  let r = r0 + k;
#for pass in 0..PASSES
  {
    let column = lane / #{GROUPS}u * 8u + #{pass * PASS_COLUMNS}u;
    let at = column0 + column;
    var columns: array<mat2x4f, #{TERMS}>;
#for t in 0..TERMS
    columns[#{t}] = mat2x4f(load_b(r + #{t}u, at, sizes.M), load_b(r + #{t}u, at + 4u, sizes.M)) * select(0.0, scale, r + #{t}u < sizes.rank);
#endfor
    store_w(column, k, columns);
  }
#endfor
#else
#for c in 0..ROUNDS
  {
    let column = lane / #{PARTS}u + #{c * LANES}u;
    let k = lane % #{PARTS}u * #{8 * EACH}u;
    let row = min(column0 + column, sizes.M - 1u);
#for e in 0..EACH
    {
      let r = r0 + k + #{8 * e}u;
      store_w(column, k + #{8 * e}u, mat2x4f(terms(r, load_b(row, r, sizes.rank)), terms(r + 4u, load_b(row, r + 4u, sizes.rank))) * scale);
    }
#endfor
  }
#endfor
#endif
}
#endif
