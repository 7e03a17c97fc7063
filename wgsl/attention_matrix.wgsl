// What the attention kernels on subgroup matrices share: f16 inputs, f32 sums, softmax in f32. A workgroup owns ROWS rows (queries, or
// keys) of one head and goes through the others in tiles of COLUMNS. Each of SUBGROUPS_M x SUBGROUPS_N subgroups holds TM x TN matrices
// of the scores and TM x TO of every result. All operands are converted while they are staged, the terms of a product side by side.
// Powers of two keep operands within f16: an own row's largest value comes near 2^14, and so does the largest of all the others that the
// workgroup reads, which is found in a first pass; values below 2^-28 of that one lose bits. A row of lanes (PARTS of them) has a row of
// scores. All workgroup variables take multiples of 16 bytes: matrix loads want such addresses, and nothing else places what follows.
// Loops over a head end at numbers that compilers do not know, which keeps them loops; those that count down are known to end.
// With FEW, sums start and are taken up again as results of products: Intel's compiler keeps such sums in place. It computes an address
// once and keeps it, too: with LATE, and by strides of their own, products that follow each other have addresses that it takes for others.
// Weights have a stride of their own with LATE and HELD, or the addresses within own operands would stay in registers for them.
#let SUBGROUPS = SUBGROUPS_M * SUBGROUPS_N
#let LANES = LANES_PER_SUBGROUP * SUBGROUPS
#let X_PART = TM * MATRIX_M
#let ROWS = SUBGROUPS_M * X_PART
#let WIDTH = SUBGROUPS_N * TO * MATRIX_N
#let PARTS = LANES / ROWS
#let EACH = COLUMNS / PARTS
#let STRIDE = COLUMNS + 8
#let WEIGHT_STRIDE = STRIDE + (LATE && HELD ? 8 : 0)
#let SCORE_STRIDE0 = COLUMNS + (LATE ? 0 : 4)
#let SCORE_STRIDE1 = SCORE_STRIDE0 + (FEW ? 4 : 0)
#let COLUMN_BLOCKS = COLUMNS / MATRIX_N
#let CHUNKS = WIDTH / COLUMNS
const LANES = #{LANES}u;
const ROWS = #{ROWS}u;
const COLUMNS = #{COLUMNS}u; // also terms of a chunk of the head
const STRIDE = #{STRIDE}u; // of a row of f16, padded against bank conflicts
const SCORE_STRIDE0 = #{SCORE_STRIDE0}u;
const WEIGHT_STRIDE = #{WEIGHT_STRIDE}u;
#if BACKWARD
const SCORE_STRIDE1 = #{SCORE_STRIDE1}u;
#endif
const PARTS = #{PARTS}u; // lanes of a row
const EACH = #{EACH}u; // columns of a lane
const WIDTH = #{WIDTH}u; // of a head, filled up with zeros
var<workgroup> own0: array<array<array<f16, #{X_PART * STRIDE}>, #{SUBGROUPS_M}>, #{CHUNKS}>; // [chunk, subgroup, row, term]
#if BACKWARD
var<workgroup> own1: array<array<array<f16, #{X_PART * STRIDE}>, #{SUBGROUPS_M}>, #{CHUNKS}>;
#endif
// [block of MATRIX_N rows, row, term]: of scores, a row is a column of theirs and a block belongs to a chunk of the head; of a sum, a
// row is one d of the head and terms are columns of scores.
var<workgroup> other: array<array<f16, #{MATRIX_N * STRIDE}>, #{WIDTH / MATRIX_N}>;
var<workgroup> scores0: array<f32, #{ROWS * SCORE_STRIDE0}>; // [ROWS, SCORE_STRIDE0]; and one matrix per subgroup on its way out
#if BACKWARD
var<workgroup> scores1: array<f32, #{ROWS * SCORE_STRIDE1}>;
#endif
var<workgroup> weights0: array<array<f16, #{X_PART * WEIGHT_STRIDE}>, #{SUBGROUPS_M}>; // [subgroup, row, column]
#if SUMS == 2
var<workgroup> weights1: array<array<f16, #{X_PART * WEIGHT_STRIDE}>, #{SUBGROUPS_M}>;
#endif
var<workgroup> row_factor: array<f32, ROWS>;
var<workgroup> most: array<atomic<u32>, 4>; // bits of the largest magnitudes

fn power_of_two(field: u32) -> f32 {
  return bitcast<f32>(field << 23u);
}

fn inverse(field: u32) -> f32 {
  return power_of_two(254u - field);
}

// Exponent bits of the power of two that brings a largest magnitude to [2^aim, 2^(aim + 1)); 1 .. 253, so that its inverse is a
// normal number too.
fn scale_field(magnitude: f32, aim: u32) -> u32 {
  return min(254u + aim - min(bitcast<u32>(magnitude) >> 23u, 253u), 253u);
}

fn largest(v: vec4f) -> f32 {
  let magnitude = abs(v);
  return max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
}

// Over the lanes of a row, which lie side by side in a subgroup.
fn max_of_row(value: f32) -> f32 {
  var result = value;
#for b in 0..Math.log2(PARTS)
  result = max(result, subgroupShuffleXor(result, #{1 << b}u));
#endfor
  return result;
}

fn sum_of_row(value: f32) -> f32 {
  var result = value;
#for b in 0..Math.log2(PARTS)
  result += subgroupShuffleXor(result, #{1 << b}u);
#endfor
  return result;
}

fn offer_most(which: u32, value: f32, subgroup_lane: u32) {
  let of_subgroup = subgroupMax(value);
  if (subgroup_lane == 0u) {
    atomicMax(&most[which], bitcast<u32>(of_subgroup));
  }
}

fn take_most(which: u32) -> f32 {
  return bitcast<f32>(atomicLoad(&most[which]));
}
