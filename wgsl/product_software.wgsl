// Products on a software adapter: y = x op(W) + p op(B), ROWS tokens x COLS columns per lane, LANES lanes.
// Loads at an address that all lanes share are cheap there and others are not: the tokens' tile is read from workgroup
// memory at shared addresses, weights are loaded for the S lanes of a subgroup together and then selected by lane. With OWN (vectors
// of 512 bits, whose processors gather) each lane loads its own weights.
// Grid: column tiles, row tiles. For subgroups of exactly S = 4, 8 or 16 lanes with consecutive indices.
// Needs: NF4: in % BLOCK = 0 and BLOCK % KT = 0, backward also whole words of codes per subgroup that lie in one block;
// forward: rows of W and B of whole vec4. Rows of int8 and 16-bit weights: multiples of eight values.
enable subgroups;
const LANES = #{LANES}u;
const ROWS = #{ROWS}u;
const KT = #{KT}u; // depth of the tokens' tile
const QUADS = #{KT / 4}u;
const COLUMNS = #{LANES * COLS}u;
#include "product_bindings.wgsl"
// Two indices: the inner one is a constant where the tile is read, so that only the outer one is checked against the bounds.
var<workgroup> tile: array<array<vec4f, #{ROWS * UNROLL / 4}>, #{KT / UNROLL}>; // [KT / UNROLL, ROWS, UNROLL / 4]
#if NF4
#include "nf4_levels.wgsl"
#if S < 16
#for i in 0..16 / S
var<private> levels#{i}: f32; // of codes i * S ..
#endfor
#endif

fn level(code: u32) -> f32 {
#if S == 16
  // A shuffle of 16 lanes is a loop over them there.
#for l in 0..4
  let bit#{l} = (code & #{1 << l}u) != 0u;
#endfor
#for i in 0..16
  let q0_#{i} = NF4_LEVELS[#{i}];
#endfor
#let LOADS = 16
#include "product_software_select.wgsl"
  return q4_0;
#elif S == 8
  let i = code & 7u;
  return select(subgroupShuffle(levels0, i), subgroupShuffle(levels1, i), code > 7u);
#else
  let i = code & 3u;
  let low = select(subgroupShuffle(levels0, i), subgroupShuffle(levels1, i), (code & 4u) != 0u);
  let high = select(subgroupShuffle(levels2, i), subgroupShuffle(levels3, i), (code & 4u) != 0u);
  return select(low, high, code > 7u);
#endif
}
#endif
#if NF4 && BACKWARD
// A subgroup's columns are neighbours in one block: codes of a row come with one load, and they share a scale.
#let SPREAD = S
#let WORDS = S * COLS / 8
const BLOCKS = #{BLOCKS}u; // blocks of one row of W that a column tile can touch
var<workgroup> scales: array<array<array<vec4f, #{UNROLL / 4}>, #{BLOCKS}>, #{KT / UNROLL}>; // [KT / UNROLL, BLOCKS, UNROLL]
#else
#let SPREAD = LANES
#endif

#let LOADS = OWN ? 1 : S
#include "product_rows.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32, @builtin(subgroup_invocation_id) sid: u32) {
  let tile_row = wg.y * ROWS;
  let tile_column = wg.x * COLUMNS;
  // The broadcast tells the compiler that the subgroup's first column is the same for all its lanes.
#if NF4 && BACKWARD
  let first = tile_column + subgroupBroadcastFirst(lane) * #{COLS}u;
  let scale_block = first / #{BLOCK}u - tile_column / #{BLOCK}u;
  let codes_row = sizes.M / #{8 * Math.min(WORDS, 4)}u;
  let codes_column = first / #{8 * Math.min(WORDS, 4)}u;
  let shift = 4u * ((sid & #{Math.min(S, 8) - 1}u) ^ 1u);
#else
  let first = tile_column + subgroupBroadcastFirst(lane);
#endif
#for l in 0..Math.log2(S)
  let bit#{l} = (sid & #{1 << l}u) != 0u;
#endfor
#if OWN
  let base = first + sid; // the first column that is loaded
#else
  let base = first;
#endif
#if NF4 && S < 16
#for i in 0..16 / S
  levels#{i} = NF4_LEVELS[sid + #{i * S}u];
#endfor
#endif
#for r in 0..ROWS
#for c in 0..COLS
  var sum#{r}_#{c} = 0.0;
#endfor
#endfor
#if LOWRANK
#let LOW = 1
#include "product_software_sum.wgsl"
#endif
#let LOW = 0
#include "product_software_sum.wgsl"
#for c in 0..COLS
  let column#{c} = first + sid + #{c * SPREAD}u;
  if (column#{c} < sizes.M) {
    let scale#{c} = column_scale(column#{c});
#for r in 0..ROWS
    if (tile_row + #{r}u < sizes.N) {
      store(tile_row + #{r}u, column#{c}, scaled(sum#{r}_#{c}, scale#{c}));
    }
#endfor
  }
#endfor
}
