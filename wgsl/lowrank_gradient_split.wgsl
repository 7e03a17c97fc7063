// gradient += narrowT wide [rank, K], with COLUMNS += wideT narrow [K, rank]: the gradients of A and B. One column of wide and RANKS ranks
// per lane, LANES columns side by side; the ROWS of a workgroup share the tokens, TOKENS at a time, and are added at the end.
// Grid: column tiles, rank tiles of each module. For real GPUs: few loads wait for one another. No atomics: the order of the sums
// is fixed, so that runs repeat bit by bit.
const LANES = #{LANES}u;
#include "lowrank_gradient_bindings.wgsl"
#include "sum_rows.wgsl"

@compute @workgroup_size(#{LANES * ROWS})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tiles = (sizes.member + #{RANKS - 1}u) / #{RANKS}u;
  let first = wg.y % tiles * #{RANKS}u; // rank of the module
  let block = wg.y / tiles * sizes.stride;
  let own = min(wg.x * LANES + lane % LANES, sizes.K - 1u);
#for r in 0..RANKS
  var sum#{r} = 0.0;
#if !NARROW_VEC4
  let read#{r} = block + min(first + #{r}u, sizes.member - 1u);
#endif
#endfor
  for (var t = lane / LANES * #{TOKENS}u; t < sizes.N; t += #{ROWS * TOKENS}u) {
#for u in 0..TOKENS
    let row#{u} = min(t + #{u}u, sizes.N - 1u);
    let v#{u} = select(0.0, wide[row#{u} * sizes.K + own], t + #{u}u < sizes.N);
#endfor
#let STEP = NARROW_VEC4 ? 4 : 1
#for q in 0..RANKS / STEP
    {
#for u in 0..TOKENS
#if NARROW_VEC4
      let factor#{u} = narrow[(block + row#{u} * sizes.member + first) / 4u + #{q}u];
#else
      let factor#{u} = narrow[row#{u} * sizes.member + read#{q}];
#endif
#endfor
#for i in 0..STEP
#for u in 0..TOKENS
#if NARROW_VEC4
      sum#{4 * q + i} = fma(factor#{u}[#{i}], v#{u}, sum#{4 * q + i});
#else
      sum#{q} = fma(factor#{u}, v#{u}, sum#{q});
#endif
#endfor
#endfor
    }
#endfor
  }
  // Neighbours write neighbours.
#if COLUMNS
  let r = lane % 8u;
  let c = lane / 8u;
#else
  let r = lane / LANES;
  let c = lane % LANES;
#endif
  let column = wg.x * LANES + c;
  let rank0 = wg.y / tiles * sizes.member + first;
#for piece in 0..Math.ceil(RANKS / 8)
#let COUNT = Math.min(8, RANKS - 8 * piece)
  workgroupBarrier();
#for i in 0..COUNT
  parts[#{i}u * PITCH + lane] = sum#{8 * piece + i};
#endfor
  workgroupBarrier();
  if (r < #{COUNT}u && c < LANES && column < sizes.K && first + #{8 * piece}u + r < sizes.member) {
#if COLUMNS
    gradient[column * sizes.rank + rank0 + #{8 * piece}u + r] += g_of(column) * over_rows(r, c);
#else
    gradient[(rank0 + #{8 * piece}u + r) * sizes.K + column] += over_rows(r, c);
#endif
  }
#endfor
}
