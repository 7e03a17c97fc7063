// gradient += narrowT wide [rank, K], with COLUMNS += wideT narrow [K, rank]: the gradients of A and B. COLS columns of wide and RANKS
// ranks per lane, a loop over all tokens, TOKENS at a time; narrow is read at addresses that all lanes share.
// Grid: column tiles, rank tiles of each module. Any adapter. No atomics: every element has one lane, so that runs repeat bit by bit.
const LANES = #{LANES}u;
#include "lowrank_gradient_bindings.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tiles = (sizes.member + #{RANKS - 1}u) / #{RANKS}u;
  let first = wg.y % tiles * #{RANKS}u; // rank of the module
  let block = wg.y / tiles * sizes.stride;
#for c in 0..COLS
  let column#{c} = (wg.x * #{COLS}u + #{c}u) * LANES + lane;
  let read#{c} = min(column#{c}, sizes.K - 1u);
#for r in 0..RANKS
  var sum#{r}_#{c} = 0.0;
#endfor
#endfor
#if !NARROW_VEC4
#for r in 0..RANKS
  let read_r#{r} = block + min(first + #{r}u, sizes.member - 1u);
#endfor
#endif
  for (var t = 0u; t < sizes.N; t += #{TOKENS}u) {
#for u in 0..TOKENS
#if TOKENS > 1
    let row#{u} = min(t + #{u}u, sizes.N - 1u);
    let isRow#{u} = t + #{u}u < sizes.N;
#else
    let row#{u} = t;
#endif
#for c in 0..COLS
#if TOKENS > 1
    let v#{c}_#{u} = select(0.0, wide[row#{u} * sizes.K + read#{c}], isRow#{u});
#else
    let v#{c}_#{u} = wide[row#{u} * sizes.K + read#{c}];
#endif
#endfor
#endfor
#let STEP = NARROW_VEC4 ? 4 : 1
#for q in 0..RANKS / STEP
    {
#for u in 0..TOKENS
#if NARROW_VEC4
      let factor#{u} = narrow[(block + row#{u} * sizes.member + first) / 4u + #{q}u];
#else
      let factor#{u} = narrow[row#{u} * sizes.member + read_r#{q}];
#endif
#endfor
#for i in 0..STEP
#for c in 0..COLS
#for u in 0..TOKENS
#if NARROW_VEC4
      sum#{4 * q + i}_#{c} = fma(factor#{u}[#{i}], v#{c}_#{u}, sum#{4 * q + i}_#{c});
#else
      sum#{q}_#{c} = fma(factor#{u}, v#{c}_#{u}, sum#{q}_#{c});
#endif
#endfor
#endfor
#endfor
    }
#endfor
  }
  let rank0 = wg.y / tiles * sizes.member + first;
#for c in 0..COLS
  if (column#{c} < sizes.K) {
#for r in 0..RANKS
    if (first + #{r}u < sizes.member) {
#if COLUMNS
      gradient[column#{c} * sizes.rank + rank0 + #{r}u] += g_of(column#{c}) * sum#{r}_#{c};
#else
      gradient[(rank0 + #{r}u) * sizes.K + column#{c}] += sum#{r}_#{c};
#endif
    }
#endfor
  }
#endfor
}
