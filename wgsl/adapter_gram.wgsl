// A At of COUNT modules whose factors A lie in one arena. One workgroup per row of a result, one lane per column; a row of A is read at
// addresses that all lanes share. Grid: rows of all results, column tiles. Any adapter; once per update.
const LANES = #{LANES}u;
struct Sizes {
#for m in 0..COUNT
  rank#{m}: u32,
  in#{m}: u32,
  a#{m}: u32, // element of a at which A [rank, in] begins
#endfor
  stride: u32, // elements from one result to the next
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
#if QUADS
@group(0) @binding(1) var<storage, read> a: array<vec4f>; // the arena
#else
@group(0) @binding(1) var<storage, read> a: array<f32>; // the arena
#endif
@group(0) @binding(2) var<storage, read_write> gram: array<f32>; // [rank, rank] for each module

fn product(start: u32, width: u32, row: u32, column: u32) -> f32 {
  var sum = 0.0;
#if QUADS
  let x = (start + row * width) / 4u;
  let y = (start + column * width) / 4u;
  for (var k = 0u; k < width / 4u; k++) {
    let u = a[x + k];
    let v = a[y + k];
    sum = fma(u.w, v.w, fma(u.z, v.z, fma(u.y, v.y, fma(u.x, v.x, sum))));
  }
#else
  for (var k = 0u; k < width; k++) {
    sum = fma(a[start + row * width + k], a[start + column * width + k], sum);
  }
#endif
  return sum;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  var row = wg.x;
  let column = wg.y * LANES + lane;
#for m in 0..COUNT
  if (row < sizes.rank#{m}) {
    if (column < sizes.rank#{m}) {
      gram[#{m}u * sizes.stride + row * sizes.rank#{m} + column] = product(sizes.a#{m}, sizes.in#{m}, row, column);
    }
    return;
  }
  row -= sizes.rank#{m};
#endfor
}
