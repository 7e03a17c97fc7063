// p = alpha x w on a software adapter: one token per lane with RANKS sums in registers; w is read at addresses that all lanes share,
// x four terms at a time. w [rank, K] transposed, or with COLUMNS [K, rank]. Grid: token tiles, rank tiles. Needs K of whole vec4
// and, with W_VEC4, w too.
const LANES = #{LANES}u;
struct Sizes {
  N: u32,
  K: u32,
  rank: u32,
  alpha: f32,
  member: u32, // ranks of a module: as many modules as fit rank share x
  stride: u32, // elements from one module's block of p to the next
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [N, K / 4]
#if W_VEC4
@group(0) @binding(2) var<storage, read> w: array<vec4f>; // [rank, K / 4], COLUMNS [K, rank / 4]
#else
@group(0) @binding(2) var<storage, read> w: array<f32>; // [K, rank]
#endif
@group(0) @binding(3) var<storage, read_write> p: array<f32>; // a block [N, member] for each module

fn place(token: u32, r: u32) -> u32 {
  return r / sizes.member * sizes.stride + token * sizes.member + r % sizes.member;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = wg.x * LANES + lane;
  let row = min(token, sizes.N - 1u) * (sizes.K / 4u);
  let rank0 = wg.y * #{RANKS}u;
#for r in 0..RANKS
  var sum#{r} = 0.0;
#if !COLUMNS
  let row#{r} = min(rank0 + #{r}u, sizes.rank - 1u) * (sizes.K / 4u);
#endif
#endfor
  for (var k = 0u; k < sizes.K / 4u; k++) {
    let v = x[row + k];
#if COLUMNS
#for u in 0..4
#if W_VEC4
#for q in 0..RANKS / 4
    let w#{u}_#{q} = w[((4u * k + #{u}u) * sizes.rank + rank0) / 4u + #{q}u];
#for i in 0..4
    sum#{4 * q + i} = fma(v[#{u}], w#{u}_#{q}[#{i}], sum#{4 * q + i});
#endfor
#endfor
#else
#for r in 0..RANKS
    sum#{r} = fma(v[#{u}], w[(4u * k + #{u}u) * sizes.rank + min(rank0 + #{r}u, sizes.rank - 1u)], sum#{r});
#endfor
#endif
#endfor
#else
#for r in 0..RANKS
    {
      let a = w[row#{r} + k];
      sum#{r} = fma(v.w, a.w, fma(v.z, a.z, fma(v.y, a.y, fma(v.x, a.x, sum#{r}))));
    }
#endfor
#endif
  }
  if (token < sizes.N) {
#for r in 0..RANKS
    if (rank0 + #{r}u < sizes.rank) {
      p[place(token, rank0 + #{r}u)] = sizes.alpha * sum#{r};
    }
#endfor
  }
}
