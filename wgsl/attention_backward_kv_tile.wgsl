// Attention backward for k and v: d_v = sum of p d_o, d_k = sum of p (d_o v - delta) scale q, over the queries that see
// the key and the query heads that share it. One workgroup per TILE keys of one kv head, heads and query tiles in turn.
// Any adapter. Grid: key tiles * KV_HEADS. 16 KiB of workgroup memory.
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#include "attention_bindings.wgsl"
#if VEC4
@group(0) @binding(8) var<storage, read_write> d_k: array<vec4f>; // [N, KV_HEADS, D / 4]
@group(0) @binding(9) var<storage, read_write> d_v: array<vec4f>; // [N, KV_HEADS, D / 4]
#else
@group(0) @binding(8) var<storage, read_write> d_k: array<f32>; // [N, KV_HEADS, D]
@group(0) @binding(9) var<storage, read_write> d_v: array<f32>; // [N, KV_HEADS, D]
#endif
#include "attention_loads.wgsl"
#let WEIGHTS = 2
#include "attention_tile.wgsl"
#let KEY_ROWS = 1

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = wg.y * 32768u + wg.x;
  let kv = index % KV_HEADS;
  let j0 = index / KV_HEADS * TILE;
  let tx = lane % TX;
  let ty = lane / TX;
  let last_t = sizes.N - 1u;
  let last_j = last_t;
  let first_j = j0 + 4u * ty;
  let rows = vec4u(0u, 1u, 2u, 3u) + first_j;
  var end: vec4u;
#for r in 0..4
  end[#{r}] = last_query(min(rows[#{r}], last_j));
#endfor
#for c in 0..CHUNKS
#for r in 0..4
  var sum0_#{c}_#{r} = vec4f();
  var sum1_#{c}_#{r} = vec4f();
#endfor
#endfor
  let queries_end = last_query(min(j0 + TILE - 1u, last_j));
  for (var head = kv * GROUP; head < (kv + 1u) * GROUP; head++) {
    for (var t0 = j0; t0 < queries_end; t0 += TILE) {
      let tile_rows = min(TILE, queries_end - t0);
#for j in 0..COLS
      var dots#{j} = vec4f();
#endfor
#let GRADIENTS = 0
#include "attention_tile_scores.wgsl"
#for j in 0..COLS
      let query#{j} = t0 + #{COLS}u * tx + #{j}u;
      let seen#{j} = (vec4u(query#{j}) >= rows) & (vec4u(query#{j}) < end);
      let at#{j} = min(query#{j}, last_t) * HEADS + head;
      let p#{j} = select(vec4f(), exp(clamp(dots#{j} * sizes.scale - statistics[at#{j}].x, vec4f(-80.0), vec4f())), seen#{j});
      weights[0][#{COLS}u * tx + #{j}u][ty] = p#{j};
      dots#{j} = vec4f();
#endfor
#let GRADIENTS = 1
#include "attention_tile_scores.wgsl"
#for j in 0..COLS
      weights[1][#{COLS}u * tx + #{j}u][ty] = p#{j} * (dots#{j} - statistics[at#{j}].y) * sizes.scale;
#endfor
#let SUM = 0
#let SOURCE = 2
#include "attention_tile_sum.wgsl"
#let SUM = 1
#let SOURCE = 3
#include "attention_tile_sum.wgsl"
    }
  }
#for r in 0..4
  if (first_j + #{r}u < sizes.N) {
    let row = (first_j + #{r}u) * KV_HEADS + kv;
#for c in 0..CHUNKS
    {
      let d = #{32 * SPLIT * c}u + 4u * tx;
#if VEC4
      if (d < D) {
        d_v[(row * D + d) / 4u] = sum0_#{c}_#{r};
        d_k[(row * D + d) / 4u] = sum1_#{c}_#{r};
      }
#else
#for e in 0..4
      if (d + #{e}u < D) {
        d_v[row * D + d + #{e}u] = sum0_#{c}_#{r}[#{e}];
        d_k[row * D + d + #{e}u] = sum1_#{c}_#{r}[#{e}];
      }
#endfor
#endif
    }
#endfor
  }
#endfor
}
