// Sizes, inputs and loads that all attention kernels share. Query head h reads key and value head h / GROUP.
const D = #{HEAD_DIM}u;
const HEADS = #{HEADS}u;
const KV_HEADS = #{KV_HEADS}u;
const GROUP = #{HEADS / KV_HEADS}u; // query heads of one kv head
const MASKED = -1e30;
#let VEC4 = HEAD_DIM % 4 == 0
struct Sizes {
  N: u32,
  queryRow: u32, // stream row of the first query
  window: u32,
  headDim: u32,
  scale: f32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if BLOCKS
@group(0) @binding(1) var<storage, read> q: array<vec2u>; // [N, HEADS, D / 4] blocks of four
@group(0) @binding(2) var<storage, read> k: array<vec2u>; // [rows, KV_HEADS, D / 4]
@group(0) @binding(3) var<storage, read> v: array<vec2u>; // [rows, KV_HEADS, D / 4]
#elif VEC4
@group(0) @binding(1) var<storage, read> q: array<vec4f>; // [N, HEADS, D / 4]
@group(0) @binding(2) var<storage, read> k: array<vec4f>; // [rows, KV_HEADS, D / 4]
@group(0) @binding(3) var<storage, read> v: array<vec4f>; // [rows, KV_HEADS, D / 4]
#else
@group(0) @binding(1) var<storage, read> q: array<f32>; // [N, HEADS, D]
@group(0) @binding(2) var<storage, read> k: array<f32>; // [rows, KV_HEADS, D]
@group(0) @binding(3) var<storage, read> v: array<f32>; // [rows, KV_HEADS, D]
#endif
@group(0) @binding(4) var<storage, read> spans: array<vec2u>; // [rows] start and end of the row's sequence
#if BACKWARD
#if BLOCKS
@group(0) @binding(5) var<storage, read> d_o: array<vec2u>; // [N, HEADS, D / 4] blocks of four
#elif VEC4
@group(0) @binding(5) var<storage, read> d_o: array<vec4f>; // [N, HEADS, D / 4]
#else
@group(0) @binding(5) var<storage, read> d_o: array<f32>; // [N, HEADS, D]
#endif
@group(0) @binding(6) var<storage, read> statistics: array<vec2f>; // [N, HEADS] lse, delta
#endif

// First key that the query at a stream row sees; the last one is the row itself.
fn first_key(row: u32) -> u32 {
  let start = spans[row].x;
  return select(start, max(start, row + 1u - min(sizes.window, row + 1u)), sizes.window > 0u);
}
#if BACKWARD

// Past the last query that sees the key at a stream row; the first one is the row itself.
fn last_query(row: u32) -> u32 {
  let end = min(spans[row].y, sizes.N);
  return select(end, min(end, row + sizes.window), sizes.window > 0u);
}
#endif
#if BLOCKS

#include "block_float.wgsl"
fn q_quad(i: u32) -> vec4f {
  return unpack_block(q[i]);
}
fn k_quad(i: u32) -> vec4f {
  return unpack_block(k[i]);
}
fn v_quad(i: u32) -> vec4f {
  return unpack_block(v[i]);
}
#if BACKWARD
fn d_o_quad(i: u32) -> vec4f {
  return unpack_block(d_o[i]);
}
#endif
#elif VEC4

fn q_quad(i: u32) -> vec4f {
  return q[i];
}
fn k_quad(i: u32) -> vec4f {
  return k[i];
}
fn v_quad(i: u32) -> vec4f {
  return v[i];
}
#if BACKWARD
fn d_o_quad(i: u32) -> vec4f {
  return d_o[i];
}
#endif
#endif
