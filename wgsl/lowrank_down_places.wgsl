// Part of all variants of lowrank_down: its sizes, its result, and where that has rank r of a token. With SCALE_ROWS, which has COLUMNS,
// the rows of w count g times.
struct Sizes {
  N: u32,
  K: u32,
  rank: u32,
  alpha: f32,
  member: u32, // ranks of a module: as many modules as fit rank share x
  stride: u32, // elements from one module's block of p to the next
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(3) var<storage, read_write> p: array<f32>; // a block [N, member] for each module
#include "row_scale.wgsl"

fn place(token: u32, r: u32) -> u32 {
  return r / sizes.member * sizes.stride + token * sizes.member + r % sizes.member;
}
