// Attention forward with online softmax: one workgroup per TILE queries of one head, keys in tiles. Any adapter.
// Grid: query tiles * HEADS. 13 KiB of workgroup memory.
#if SUBGROUP_SIZE
enable subgroup_size_control;
#endif
#include "attention_bindings.wgsl"
#if VEC4
@group(0) @binding(5) var<storage, read_write> o: array<vec4f>; // [N, HEADS, D / 4]
#else
@group(0) @binding(5) var<storage, read_write> o: array<f32>; // [N, HEADS, D]
#endif
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [N, HEADS]
#include "attention_loads.wgsl"
#let WEIGHTS = 1
#include "attention_tile.wgsl"
var<workgroup> partial: array<array<vec4f, 8>, TX>; // [TX, 8 (ty)] of four rows

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
#for r in 0..4
  first[#{r}] = first_key(min(rows[#{r}], last_j));
#endfor
  var largest = vec4f(MASKED);
  var total = vec4f();
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
#include "attention_tile_scores.wgsl"
    var tile_largest = vec4f(MASKED);
#for j in 0..COLS
    let key#{j} = vec4u(j0 + #{COLS}u * tx + #{j}u);
    let seen#{j} = (key#{j} >= first) & (key#{j} <= rows);
    dots#{j} = select(vec4f(MASKED), dots#{j} * sizes.scale, seen#{j});
    tile_largest = max(tile_largest, dots#{j});
#endfor
    partial[tx][ty] = tile_largest;
    workgroupBarrier();
    var next = largest;
    for (var i = 0u; i < TX; i++) {
      next = max(next, partial[i][ty]);
    }
    let shrink = exp(max(largest - next, vec4f(-80.0)));
    largest = next;
    total *= shrink;
#for j in 0..COLS
    let p#{j} = select(vec4f(), exp(max(dots#{j} - largest, vec4f(-80.0))), seen#{j});
    total += p#{j};
    weights[0][#{COLS}u * tx + #{j}u][ty] = p#{j};
#endfor
#for c in 0..CHUNKS
#for r in 0..4
    sum0_#{c}_#{r} *= shrink[#{r}];
#endfor
#endfor
#let SUM = 0
#let SOURCE = 0
#include "attention_tile_sum.wgsl"
  }
  workgroupBarrier();
  partial[tx][ty] = total;
  workgroupBarrier();
  total = vec4f();
  for (var i = 0u; i < TX; i++) {
    total += partial[i][ty];
  }
#for r in 0..4
  if (first_t + #{r}u < sizes.N) {
    let row = (first_t + #{r}u) * HEADS + head;
    if (tx == 0u) {
      lse[row] = largest[#{r}] + log(total[#{r}]);
    }
#for c in 0..CHUNKS
    {
      let result = sum0_#{c}_#{r} / total[#{r}];
      let d = #{32 * SPLIT * c}u + 4u * tx;
#if VEC4
      if (d < D) {
        o[(row * D + d) / 4u] = result;
      }
#else
#for e in 0..4
      if (d + #{e}u < D) {
        o[row * D + d + #{e}u] = result[#{e}];
      }
#endfor
#endif
    }
#endfor
  }
#endfor
}
