// Part of both kinds of adapter_gram: its sizes and bindings.
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
