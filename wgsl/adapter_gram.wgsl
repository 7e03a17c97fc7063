// A At of COUNT modules whose factors A lie in one arena. One lane per row of a result, COLS columns per workgroup: their rows of A are read
// at addresses that all lanes share. Grid: column tiles of all results, row tiles. Any adapter; once per update.
const LANES = #{LANES}u;
#include "adapter_gram_bindings.wgsl"

// Columns first .. first + COLS of a result's row.
fn row_of(start: u32, rank: u32, width: u32, result: u32, row: u32, first: u32) {
  let own = start + min(row, rank - 1u) * width;
#for c in 0..COLS
  let other#{c} = start + min(first + #{c}u, rank - 1u) * width;
  var sum#{c} = 0.0;
#endfor
#if QUADS
  for (var k = 0u; k < width / 4u; k++) {
    let u = a[own / 4u + k];
#for c in 0..COLS
    {
      let v = a[other#{c} / 4u + k];
      sum#{c} = fma(u.w, v.w, fma(u.z, v.z, fma(u.y, v.y, fma(u.x, v.x, sum#{c}))));
    }
#endfor
  }
#else
  for (var k = 0u; k < width; k++) {
    let u = a[own + k];
#for c in 0..COLS
    sum#{c} = fma(u, a[other#{c} + k], sum#{c});
#endfor
  }
#endif
#for c in 0..COLS
  if (row < rank && first + #{c}u < rank) {
    gram[result + row * rank + first + #{c}u] = sum#{c};
  }
#endfor
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  var tile = wg.x;
  var start = 0u;
  var width = 0u;
  var result = 0u;
  var rank = 0u; // 0 until the tile's module is found: shaders grow with what stands in each branch
#for m in 0..COUNT
  if (rank == 0u) {
    let tiles = (sizes.rank#{m} + #{COLS - 1}u) / #{COLS}u;
    if (tile < tiles) {
      start = sizes.a#{m};
      width = sizes.in#{m};
      result = #{m}u * sizes.stride;
      rank = sizes.rank#{m};
    } else {
      tile -= tiles;
    }
  }
#endfor
  if (rank > 0u) {
    row_of(start, rank, width, result, wg.y * LANES + lane, tile * #{COLS}u);
  }
}
