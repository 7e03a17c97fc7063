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

// Which row of STEP a lane has: DEPTH / 4 lanes have one side by side. Rows of 20 words lie so in banks that with even ones first, four
// of them meet in none (of 12 words, eight).
fn own_row(lane: u32) -> u32 {
#if AHEAD && DEPTH == 32
  let row = lane / #{DEPTH / 4}u;
  return (row & #{~7 >>> 0}u) + (row & 3u) * 2u + ((row >> 2u) & 1u);
#else
  return lane / #{DEPTH / 4}u;
#endif
}

// DEPTH / 4 lanes read a row side by side; each has ROWS / STEP rows.
fn find_row_max(lane: u32, row0: u32, b_field: u32) {
  let row = own_row(lane);
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
#let FLIGHT = AHEAD ? Math.max(1, Math.floor(16 * STEP / ROWS)) : 1
#for s in 0..ROWS / STEP
  let start#{s} = x_start(row0 + row + #{s * STEP}u);
#endfor
  for (var k = lane % #{DEPTH / 4}u * 4u; k < sizes.K; k += #{FLIGHT * DEPTH}u) {
#for s in 0..ROWS / STEP
#for f in 0..FLIGHT
    let x#{s}_#{f} = load_x_from(start#{s}, k + #{f * DEPTH}u);
#endfor
#endfor
#for s in 0..ROWS / STEP
#for f in 0..FLIGHT
    largest#{s} = max(largest#{s}, largest(x#{s}_#{f}));
#endfor
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

// Four terms of a row. Every other row starts with the second pair: then even and odd banks are written at a time.
fn store_x(lane: u32, row: u32, k: u32, v: vec4f) {
  let at = row % #{X_PART}u * STRIDE + k % #{ROW_TERMS}u;
#if AHEAD
  let turned = lane / #{DEPTH / 4}u % 2u * 2u;
  let terms = select(v, v.zwxy, turned != 0u);
#else
  const turned = 0u;
  let terms = v;
#endif
#if X_TERMS == 2
  let first = first_bits(terms);
  let half = vec4<f16>(first);
  let rest = vec4<f16>(terms - first);
#for i in 0..4
  x_tile[#{LAYERS}u + k / #{ROW_TERMS}u][row / #{X_PART}u][at + (#{i}u ^ turned)] = rest[#{i}];
#endfor
#else
  let half = vec4<f16>(terms);
#endif
#for i in 0..4
  x_tile[k / #{ROW_TERMS}u][row / #{X_PART}u][at + (#{i}u ^ turned)] = half[#{i}];
#endfor
}
#if BACKWARD
#let GROUPS = DEPTH / TERMS
#let PASS_COLUMNS = LANES / GROUPS * 8
#let PASSES = COLUMNS / PASS_COLUMNS

// TERMS terms of eight columns, turned so that a column's terms lie side by side.
fn store_w(column: u32, k: u32, columns: array<mat2x4f, #{TERMS}>) {
  let at = column % #{W_PART}u * STRIDE + k % #{ROW_TERMS}u;
#for i in 0..8
#for t in 0..TERMS
  w_tile[k / #{ROW_TERMS}u][column / #{W_PART}u][at + #{i}u * STRIDE + #{t}u] = f16(columns[#{t}][#{i >> 2}][#{i & 3}]);
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
    {
      let row = min(k0 + k + #{t}u, sizes.K - 1u);
      columns[#{t}] = load_eight(row, column0 + column, sizes.M) * g_of(row);
    }
#endfor
    store_w(column, k, columns);
  }
#endfor
}
#else
#let PARTS = Math.max(1, LANES / COLUMNS)
#let ROUNDS = Math.max(1, COLUMNS / LANES)
#let EACH = DEPTH / 8 / PARTS

// With which of four pairs of terms a lane starts: another one than lanes whose columns lie in the same banks.
fn first_pair(lane: u32) -> u32 {
#if AHEAD
  return lane / #{8 * PARTS}u % #{Math.max(1, 4 / PARTS)}u * #{PARTS}u + lane % #{PARTS}u;
#else
  return 0u;
#endif
}

// The pairs of eight terms, from first_pair on.
fn turned_pairs(lane: u32, v: mat2x4f) -> mat4x2f {
#if AHEAD
  let one = (first_pair(lane) & 1u) != 0u;
  let two = (first_pair(lane) & 2u) != 0u;
  let p = mat4x2f(select(v[0].xy, v[0].zw, one), select(v[0].zw, v[1].xy, one), select(v[1].xy, v[1].zw, one), select(v[1].zw, v[0].xy, one));
  return mat4x2f(select(p[0], p[2], two), select(p[1], p[3], two), select(p[2], p[0], two), select(p[3], p[1], two));
#else
  return mat4x2f(v[0].xy, v[0].zw, v[1].xy, v[1].zw);
#endif
}

// Eight terms of a column as turned_pairs gives them; of b, whose rests count also where f16 holds W. Without AHEAD one loop has both.
fn store_w(lane: u32, column: u32, k: u32, pairs: mat4x2f, of_b: bool) {
  let at = column % #{W_PART}u * STRIDE + k % #{ROW_TERMS}u;
  let layer = k / #{ROW_TERMS}u;
  let start = first_pair(lane);
#for h in 0..2
  {
    let v = vec4f(pairs[#{2 * h}], pairs[#{2 * h + 1}]);
#if TILE_TERMS == 2
    let first = first_bits(v);
    let half = vec4<f16>(first);
    let rest = vec4<f16>(v - first);
#else
    let half = vec4<f16>(v);
#endif
#for p in 0..2
    {
      let place = at + (#{2 * h + p}u + start) % 4u * 2u;
#if TILE_TERMS == 2
      if (#{W_TERMS == 2 || !AHEAD} || of_b) {
        w_tile[#{LAYERS}u + layer][column / #{W_PART}u][place] = rest[#{2 * p}];
        w_tile[#{LAYERS}u + layer][column / #{W_PART}u][place + 1u] = rest[#{2 * p + 1}];
      }
#endif
      w_tile[layer][column / #{W_PART}u][place] = half[#{2 * p}];
      w_tile[layer][column / #{W_PART}u][place + 1u] = half[#{2 * p + 1}];
    }
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
    store_w(lane, column, k + #{8 * e}u, turned_pairs(lane, scale * decode_eight(load_codes(row, k0 + k + #{8 * e}u, sizes.K))), false);
#endfor
#else
#for e in 0..EACH
    store_w(lane, column, k + #{8 * e}u, turned_pairs(lane, load_eight(row, k0 + k + #{8 * e}u, sizes.K)), false);
#endfor
#endif
  }
#endfor
}
#endif
#if LOWRANK

// Four neighbouring values of a row of b.
fn load_b(row: u32, column: u32, length: u32) -> vec4f {
  let at = row * length + column;
#if B_VEC4
  return b[at / 4u];
#else
  return vec4f(b[at], b[at + 1u], b[at + 2u], b[at + 3u]);
#endif
}

// The same with zeros past the rank.
fn ranked(r: u32, v: vec4f) -> vec4f {
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
    most = max(most, largest(ranked(r, load_b(min(column0 + i / quads, sizes.M - 1u), r, sizes.rank))));
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
      store_w(lane, column, k + #{8 * e}u, turned_pairs(lane, mat2x4f(ranked(r, load_b(row, r, sizes.rank)), ranked(r + 4u, load_b(row, r + 4u, sizes.rank))) * scale), true);
    }
#endfor
  }
#endfor
#endif
}
#endif
