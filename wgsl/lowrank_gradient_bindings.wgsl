// Part of both variants of lowrank_gradient: its sizes and bindings. With SCALE_ROWS, which has COLUMNS, what is added is g times that.
struct Sizes {
  N: u32,
  K: u32,
  rank: u32,
  member: u32, // ranks of a module: as many modules as fit rank share wide
  stride: u32, // elements from one module's block of narrow to the next
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> wide: array<f32>; // [N, K]
#if NARROW_VEC4
@group(0) @binding(2) var<storage, read> narrow: array<vec4f>; // a block [N, member / 4] for each module
#else
@group(0) @binding(2) var<storage, read> narrow: array<f32>; // a block [N, member] for each module
#endif
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>; // [rank, K], COLUMNS [K, rank]
#include "row_scale.wgsl"
