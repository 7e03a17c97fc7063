// Attention backward for q: p = exp(scale q k - lse), d_q = sum of p (d_o v - delta) scale k. One workgroup per TILE
// queries of one head, keys in tiles. Any adapter. Grid: query tiles * HEADS. 12 KiB of workgroup memory.
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#include "attention_bindings.wgsl"
#if VEC4
@group(0) @binding(8) var<storage, read_write> d_q: array<vec4f>; // [N, HEADS, D / 4]
#else
@group(0) @binding(8) var<storage, read_write> d_q: array<f32>; // [N, HEADS, D]
#endif
#include "attention_loads.wgsl"
#let WEIGHTS = 1
#include "attention_tile.wgsl"

#if SUBGROUP_SIZE
@subgroup_size(#{SUBGROUP_SIZE})
#endif
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = wg.y * 32768u + wg.x;
  let head = index % HEADS;
  let kv = head / GROUP;
  let t0 = index / HEADS * TILE;
  let tx = lane % TX;
  let ty = lane / TX;
  let last_t = sizes.N - 1u;
  let last_j = sizes.queryRow + min(t0 + TILE - 1u, last_t);
  let first_t = t0 + 4u * ty;
  let rows = vec4u(0u, 1u, 2u, 3u) + sizes.queryRow + first_t;
  var first: vec4u;
  var row_lse: vec4f;
  var row_delta: vec4f;
#for r in 0..4
  first[#{r}] = first_key(min(rows[#{r}], last_j));
  let query#{r} = min(first_t + #{r}u, last_t) * HEADS + head;
  row_lse[#{r}] = statistics[query#{r}].x;
  row_delta[#{r}] = statistics[query#{r}].y;
#endfor
#for c in 0..CHUNKS
#for r in 0..4
  var sum0_#{c}_#{r} = vec4f();
#endfor
#endfor
  let lowest = first_key(min(sizes.queryRow + t0, last_j));
  for (var j0 = lowest / TILE * TILE; j0 <= last_j; j0 += TILE) {
    let tile_rows = min(TILE, last_j + 1u - j0);
#for j in 0..COLS
    var dots#{j} = vec4f();
#endfor
#let GRADIENTS = 0
#include "attention_tile_scores.wgsl"
#for j in 0..COLS
    let key#{j} = vec4u(j0 + #{COLS}u * tx + #{j}u);
    let seen#{j} = (key#{j} >= first) & (key#{j} <= rows);
    let p#{j} = exp(clamp(dots#{j} * sizes.scale - row_lse, vec4f(-80.0), vec4f()));
    dots#{j} = vec4f();
#endfor
#let GRADIENTS = 1
#include "attention_tile_scores.wgsl"
#for j in 0..COLS
    weights[0][#{COLS}u * tx + #{j}u][ty] = select(vec4f(), p#{j} * (dots#{j} - row_delta) * sizes.scale, seen#{j});
#endfor
#let SUM = 0
#let SOURCE = 1
#include "attention_tile_sum.wgsl"
  }
#for r in 0..4
  if (first_t + #{r}u < sizes.N) {
    let row = (first_t + #{r}u) * HEADS + head;
#for c in 0..CHUNKS
    {
      let d = #{32 * SPLIT * c}u + 4u * tx;
#if VEC4
      if (d < D) {
        d_q[(row * D + d) / 4u] = sum0_#{c}_#{r};
      }
#else
#for e in 0..4
      if (d + #{e}u < D) {
        d_q[row * D + d + #{e}u] = sum0_#{c}_#{r}[#{e}];
      }
#endfor
#endif
    }
#endfor
  }
#endfor
}
