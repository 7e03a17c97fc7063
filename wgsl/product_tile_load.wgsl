// Part of product_tile.wgsl: fills x_tile and w_tile. Terms past K are zero in x_tile; columns past M are never stored.

#include "product_rows.wgsl"

// Four neighbouring values of a row of W.
fn load_w(row: u32, column: u32, length: u32) -> vec4f {
#if NF4 && ALIGNED
  let word = codes[(row * length + column) / 8u] >> (4u * (column & 4u));
  let scale = block_scale((row * length + column) / #{BLOCK}u);
  return scale * vec4f(levels[(word >> 4u) & 15u], levels[word & 15u], levels[(word >> 12u) & 15u], levels[(word >> 8u) & 15u]);
#elif NF4
  let word = codes[row * ((length + 7u) / 8u) + column / 8u] >> (4u * (column & 4u));
  let at = row * length + column;
  return vec4f(
    levels[(word >> 4u) & 15u] * block_scale(at / #{BLOCK}u), levels[word & 15u] * block_scale((at + 1u) / #{BLOCK}u),
    levels[(word >> 12u) & 15u] * block_scale((at + 2u) / #{BLOCK}u), levels[(word >> 8u) & 15u] * block_scale((at + 3u) / #{BLOCK}u));
#elif INT8 && W_VEC4
  let words = codes[(row * length + column) / 8u];
  return absmax[row] * unpack4x8snorm(select(words.x, words.y, (column & 4u) != 0u));
#elif INT8
  return absmax[row] * unpack4x8snorm(codes[row * ((length + 3u) / 4u) + column / 4u]);
#elif BF16 || F16
  let at = row * length + column;
#if W_VEC4
  let words = values[at / 8u];
  let pair = select(words.xy, words.zw, (at & 4u) != 0u);
  return vec4f(unpack(pair.x), unpack(pair.y));
#else
  let first = unpack(values[at / 2u]);
  let second = unpack(values[at / 2u + 1u]);
  let third = unpack(values[at / 2u + 2u]);
  return select(vec4f(first, second), vec4f(first.y, second, third.x), (at & 1u) != 0u);
#endif
#elif W_VEC4
  return values[(row * length + column) / 4u];
#else
  let at = row * length + column;
  return vec4f(values[at], values[at + 1u], values[at + 2u], values[at + 3u]);
#endif
}

// Four rows by four terms, turned so that a vec4 holds four rows at one depth.
fn store_x(group: u32, quad: u32, rows: mat4x4f) {
  let turned = transpose(rows);
#for i in 0..4
  x_tile[quad][#{i}][group] = turned[#{i}];
#endfor
}
#if !BACKWARD

fn store_w(group: u32, quad: u32, rows: mat4x4f) {
  let turned = transpose(rows);
#for i in 0..4
  w_tile[quad][#{i}][group] = turned[#{i}];
#endfor
}
#endif

fn stage(lane: u32, row0: u32, column0: u32, k0: u32) {
#for s in 0..Math.ceil(THREAD_ROWS * ROW_QUADS * DEPTH / 4 / (THREAD_COLUMNS * THREAD_ROWS))
  {
    let i = lane + #{s * THREAD_COLUMNS * THREAD_ROWS}u;
#if THREAD_ROWS * ROW_QUADS * DEPTH / 4 % (THREAD_COLUMNS * THREAD_ROWS) != 0
    if (i < #{THREAD_ROWS * ROW_QUADS * DEPTH / 4}u)
#endif
    {
      let row = row0 + i % ROW_GROUPS * 4u;
      let k = i / ROW_GROUPS * 4u;
      store_x(i % ROW_GROUPS, i / ROW_GROUPS, mat4x4f(load_x(row, k0 + k), load_x(row + 1u, k0 + k), load_x(row + 2u, k0 + k), load_x(row + 3u, k0 + k)));
    }
  }
#endfor
#if BACKWARD
#for s in 0..Math.ceil(THREAD_COLUMNS * COLUMN_QUADS * DEPTH / (THREAD_COLUMNS * THREAD_ROWS))
  {
    let i = lane + #{s * THREAD_COLUMNS * THREAD_ROWS}u;
#if THREAD_COLUMNS * COLUMN_QUADS * DEPTH % (THREAD_COLUMNS * THREAD_ROWS) != 0
    if (i < #{THREAD_COLUMNS * COLUMN_QUADS * DEPTH}u)
#endif
    {
      let row = k0 + i / COLUMN_GROUPS;
      let w = load_w(row, column0 + i % COLUMN_GROUPS * 4u, sizes.M);
      w_tile[i / COLUMN_GROUPS / 4u][i / COLUMN_GROUPS % 4u][i % COLUMN_GROUPS] = g_of(row) * w;
    }
  }
#endfor
#else
#for s in 0..Math.ceil(THREAD_COLUMNS * COLUMN_QUADS * DEPTH / 4 / (THREAD_COLUMNS * THREAD_ROWS))
  {
    let i = lane + #{s * THREAD_COLUMNS * THREAD_ROWS}u;
#if THREAD_COLUMNS * COLUMN_QUADS * DEPTH / 4 % (THREAD_COLUMNS * THREAD_ROWS) != 0
    if (i < #{THREAD_COLUMNS * COLUMN_QUADS * DEPTH / 4}u)
#endif
    {
      let row = column0 + i % COLUMN_GROUPS * 4u;
      let k = i / COLUMN_GROUPS * 4u;
      store_w(i % COLUMN_GROUPS, i / COLUMN_GROUPS, mat4x4f(
        load_w(row, k0 + k, sizes.K), load_w(row + 1u, k0 + k, sizes.K), load_w(row + 2u, k0 + k, sizes.K), load_w(row + 3u, k0 + k, sizes.K)));
    }
  }
#endfor
#endif
}
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

fn stage_low(lane: u32, row0: u32, column0: u32, r0: u32) {
#for s in 0..Math.ceil(THREAD_ROWS * ROW_QUADS * DEPTH / 4 / (THREAD_COLUMNS * THREAD_ROWS))
  {
    let i = lane + #{s * THREAD_COLUMNS * THREAD_ROWS}u;
#if THREAD_ROWS * ROW_QUADS * DEPTH / 4 % (THREAD_COLUMNS * THREAD_ROWS) != 0
    if (i < #{THREAD_ROWS * ROW_QUADS * DEPTH / 4}u)
#endif
    {
      let row = row0 + i % ROW_GROUPS * 4u;
      let r = i / ROW_GROUPS * 4u;
      store_x(i % ROW_GROUPS, i / ROW_GROUPS, mat4x4f(load_p(row, r0 + r), load_p(row + 1u, r0 + r), load_p(row + 2u, r0 + r), load_p(row + 3u, r0 + r)));
    }
  }
#endfor
#if BACKWARD
#for s in 0..Math.ceil(THREAD_COLUMNS * COLUMN_QUADS * DEPTH / (THREAD_COLUMNS * THREAD_ROWS))
  {
    let i = lane + #{s * THREAD_COLUMNS * THREAD_ROWS}u;
#if THREAD_COLUMNS * COLUMN_QUADS * DEPTH % (THREAD_COLUMNS * THREAD_ROWS) != 0
    if (i < #{THREAD_COLUMNS * COLUMN_QUADS * DEPTH}u)
#endif
    {
      w_tile[i / COLUMN_GROUPS / 4u][i / COLUMN_GROUPS % 4u][i % COLUMN_GROUPS] = load_b(r0 + i / COLUMN_GROUPS, column0 + i % COLUMN_GROUPS * 4u, sizes.M);
    }
  }
#endfor
#else
#for s in 0..Math.ceil(THREAD_COLUMNS * COLUMN_QUADS * DEPTH / 4 / (THREAD_COLUMNS * THREAD_ROWS))
  {
    let i = lane + #{s * THREAD_COLUMNS * THREAD_ROWS}u;
#if THREAD_COLUMNS * COLUMN_QUADS * DEPTH / 4 % (THREAD_COLUMNS * THREAD_ROWS) != 0
    if (i < #{THREAD_COLUMNS * COLUMN_QUADS * DEPTH / 4}u)
#endif
    {
      let row = column0 + i % COLUMN_GROUPS * 4u;
      let r = i / COLUMN_GROUPS * 4u;
      store_w(i % COLUMN_GROUPS, i / COLUMN_GROUPS, mat4x4f(
        load_b(row, r0 + r, sizes.rank), load_b(row + 1u, r0 + r, sizes.rank), load_b(row + 2u, r0 + r, sizes.rank), load_b(row + 3u, r0 + r, sizes.rank)));
    }
  }
#endfor
#endif
}
#endif
