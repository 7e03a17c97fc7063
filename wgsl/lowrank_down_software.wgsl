// p = alpha x w on a software adapter: TOKENS of them per lane with RANKS sums each; w is read at addresses that all lanes share,
// x four terms at a time. w [rank, K] transposed, or with COLUMNS [K, rank]. Grid: token tiles, rank tiles. Needs K of whole vec4
// and, with W_VEC4, w too.
const LANES = #{LANES}u;
#include "lowrank_down_places.wgsl"
@group(0) @binding(1) var<storage, read> x: array<vec4f>; // [N, K / 4]
#if W_VEC4
@group(0) @binding(2) var<storage, read> w: array<vec4f>; // [rank, K / 4], COLUMNS [K, rank / 4]
#else
@group(0) @binding(2) var<storage, read> w: array<f32>; // [K, rank]
#endif

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
#for n in 0..TOKENS
  let token#{n} = (wg.x * #{TOKENS}u + #{n}u) * LANES + lane;
  let start#{n} = min(token#{n}, sizes.N - 1u) * (sizes.K / 4u);
#for r in 0..RANKS
  var sum#{n}_#{r} = 0.0;
#endfor
#endfor
  let rank0 = wg.y * #{RANKS}u;
#if !COLUMNS
#for r in 0..RANKS
  let row#{r} = min(rank0 + #{r}u, sizes.rank - 1u) * (sizes.K / 4u);
#endfor
#endif
  for (var k = 0u; k < sizes.K / 4u; k++) {
#if SCALE_ROWS
    let g = vec4f(g_of(4u * k), g_of(4u * k + 1u), g_of(4u * k + 2u), g_of(4u * k + 3u));
#endif
#for n in 0..TOKENS
#if SCALE_ROWS
    let v#{n} = g * x[start#{n} + k];
#else
    let v#{n} = x[start#{n} + k];
#endif
#endfor
#if COLUMNS
#for u in 0..4
#if W_VEC4
#for q in 0..RANKS / 4
    {
      let a = w[((4u * k + #{u}u) * sizes.rank + rank0) / 4u + #{q}u];
#for i in 0..4
#for n in 0..TOKENS
      sum#{n}_#{4 * q + i} = fma(v#{n}[#{u}], a[#{i}], sum#{n}_#{4 * q + i});
#endfor
#endfor
    }
#endfor
#else
#for r in 0..RANKS
    {
      let a = w[(4u * k + #{u}u) * sizes.rank + min(rank0 + #{r}u, sizes.rank - 1u)];
#for n in 0..TOKENS
      sum#{n}_#{r} = fma(v#{n}[#{u}], a, sum#{n}_#{r});
#endfor
    }
#endfor
#endif
#endfor
#else
#for r in 0..RANKS
    {
      let a = w[row#{r} + k];
#for n in 0..TOKENS
      sum#{n}_#{r} = fma(v#{n}.w, a.w, fma(v#{n}.z, a.z, fma(v#{n}.y, a.y, fma(v#{n}.x, a.x, sum#{n}_#{r}))));
#endfor
    }
#endfor
#endif
  }
#for n in 0..TOKENS
  if (token#{n} < sizes.N) {
#for r in 0..RANKS
    if (rank0 + #{r}u < sizes.rank) {
      p[place(token#{n}, rank0 + #{r}u)] = sizes.alpha * sum#{n}_#{r};
    }
#endfor
  }
#endfor
}
