// Part of product_matrix.wgsl: NF4 weights in two steps, what is loaded of them and what becomes of that. A lane has FETCHED groups of
// WORDS words, each group of one block.
#let FETCHED = BACKWARD ? PASSES : ROUNDS
#let WORDS = BACKWARD ? 1 : EACH

#if BACKWARD

// The row of W of all groups of a lane.
fn row_of(lane: u32, k0: u32) -> u32 {
  return min(k0 + lane % DEPTH, sizes.K - 1u);
}
#endif

// Where a group starts among the weights, for the tile whose terms start at k0.
fn weight_at(lane: u32, column0: u32, k0: u32, group: u32) -> u32 {
#if BACKWARD
  return row_of(lane, k0) * sizes.M + column0 + lane / DEPTH * 8u + group * #{PASS_COLUMNS}u;
#else
  return min(column0 + lane / #{PARTS}u + group * LANES, sizes.M - 1u) * sizes.K + k0 + lane % #{PARTS}u * #{8 * EACH}u;
#endif
}
#if DOUBLE
var<workgroup> scale_map: array<f32, 256>;

// The code of a block's absmax, and the absmax of these, bits.
fn load_block(block: u32) -> vec2u {
  let code = (absmax[sizes.codesWord + block / 4u] >> (8u * (block % 4u))) & 255u;
  return vec2u(code, absmax[min(257u + block / 256u, sizes.codesWord - 1u)]);
}

fn block_scale_of(block: vec2u) -> f32 {
  return scale_map[block.x] * bitcast<f32>(block.y) + bitcast<f32>(absmax[256]);
}
#else

fn load_block(block: u32) -> f32 {
  return absmax[block];
}

fn block_scale_of(block: f32) -> f32 {
  return block;
}
#endif

fn store_word(lane: u32, group: u32, e: u32, scale: f32, word: u32) {
#if BACKWARD
  store_w(lane / DEPTH * 8u + group * #{PASS_COLUMNS}u, lane % DEPTH, array<mat2x4f, 1>(decode_eight(word) * scale));
#else
  // A byte is a pair, its high nibble first.
  let turn = 8u * first_pair(lane);
  let bytes = (word >> turn) | (word << ((32u - turn) & 31u));
  let pairs = mat4x2f(
    vec2f(levels[(bytes >> 4u) & 15u], levels[bytes & 15u]), vec2f(levels[(bytes >> 12u) & 15u], levels[(bytes >> 8u) & 15u]),
    vec2f(levels[(bytes >> 20u) & 15u], levels[(bytes >> 16u) & 15u]), vec2f(levels[bytes >> 28u], levels[(bytes >> 24u) & 15u]));
  store_w(lane, lane / #{PARTS}u + group * LANES, lane % #{PARTS}u * #{8 * EACH}u + 8u * e, pairs * scale, false);
#endif
}
