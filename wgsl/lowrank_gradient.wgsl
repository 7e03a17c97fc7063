// gradient += narrowT wide [rank, K], with COLUMNS += wideT narrow [K, rank]: the gradients of A and B. COLS columns of wide and RANKS
// ranks per lane, a loop over all tokens; narrow is read at addresses that all lanes share.
// Grid: column tiles, rank tiles of each module. Any adapter. No atomics: every element has one lane, so that runs repeat bit by bit.
const LANES = #{LANES}u;
struct Sizes {
  N: u32,
  K: u32,
  rank: u32,
  member: u32, // ranks of a module: as many modules as fit rank share wide
  stride: u32, // elements from one module's block of narrow to the next
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> wide: array<f32>; // [N, K]
@group(0) @binding(2) var<storage, read> narrow: array<f32>; // a block [N, member] for each module
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>; // [rank, K], COLUMNS [K, rank]

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
#for r in 0..RANKS
  let read_r#{r} = block + min(first + #{r}u, sizes.member - 1u);
#endfor
  for (var t = 0u; t < sizes.N; t++) {
#for c in 0..COLS
    let v#{c} = wide[t * sizes.K + read#{c}];
#endfor
#for r in 0..RANKS
    {
      let factor = narrow[t * sizes.member + read_r#{r}];
#for c in 0..COLS
      sum#{r}_#{c} = fma(factor, v#{c}, sum#{r}_#{c});
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
      gradient[column#{c} * sizes.rank + rank0 + #{r}u] += sum#{r}_#{c};
#else
      gradient[(rank0 + #{r}u) * sizes.K + column#{c}] += sum#{r}_#{c};
#endif
    }
#endfor
  }
#endfor
}
