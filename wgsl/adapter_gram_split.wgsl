// A At of COUNT modules whose factors A lie in one arena. 2 x 4 results per workgroup, of which the lanes share the sum over the
// width, every LANES-th vec4 each. The order of the sums is fixed. Grid: tiles of all results. For real GPUs; once per
// update. Needs widths and beginnings of whole vec4.
const LANES = #{LANES}u;
#include "adapter_gram_bindings.wgsl"
var<workgroup> sums: array<vec4f, #{2 * LANES / 2}>; // [2, LANES / 2]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  var tile = wg.y * 32768u + wg.x;
  var start = 0u;
  var width = 0u;
  var result = 0u;
  var rank = 0u; // 0 until the tile's module is found
#for m in 0..COUNT
  if (rank == 0u) {
    let tiles = (sizes.rank#{m} + 1u) / 2u * ((sizes.rank#{m} + 3u) / 4u);
    if (tile < tiles) {
      start = sizes.a#{m} / 4u;
      width = sizes.in#{m} / 4u;
      result = #{m}u * sizes.stride;
      rank = sizes.rank#{m};
    } else {
      tile -= tiles;
    }
  }
#endfor
  if (rank == 0u) {
    return; // for the whole workgroup
  }
  let side = (rank + 3u) / 4u;
  let row = tile / side * 2u;
  let column = tile % side * 4u;
#for i in 0..2
  let row#{i} = start + min(row + #{i}u, rank - 1u) * width;
  var sum#{i} = vec4f(); // of row i
#endfor
#for c in 0..4
  let column#{c} = start + min(column + #{c}u, rank - 1u) * width;
#endfor
  for (var k = lane; k < width; k += LANES) {
#for i in 0..2
    let u#{i} = a[row#{i} + k];
#endfor
#for c in 0..4
    let v#{c} = a[column#{c} + k];
#endfor
#for i in 0..2
#for c in 0..4
    sum#{i}[#{c}] = fma(u#{i}.w, v#{c}.w, fma(u#{i}.z, v#{c}.z, fma(u#{i}.y, v#{c}.y, fma(u#{i}.x, v#{c}.x, sum#{i}[#{c}]))));
#endfor
#endfor
  }
#let SUMS = 2
#let LEFT = 1
#include "sum_lanes.wgsl"
  if (lane == 0u) {
#for i in 0..2
#for c in 0..4
    if (row + #{i}u < rank && column + #{c}u < rank) {
      gram[result + (row + #{i}u) * rank + column + #{c}u] = sum#{i}[#{c}];
    }
#endfor
#endfor
  }
}
