// Workgroup memory of the tiled attention kernels: 8 x TX lanes, TILE = 32 queries and 32 keys at a time. SPLIT (1, 2 or 4) makes TX
// wider where a lane's sums would not fit its registers.
// Lane (ty, tx) holds rows 4 ty .. 4 ty + 3: of scores the columns COLS tx .. COLS tx + COLS - 1, of a result 4 tx .. 4 tx + 3 (plus
// 4 TX c for column chunk c). Arrays of arrays, so that an index's bounds check is shared or stays outside of loops; loops end at
// numbers that compilers do not know, which keeps them loops: unrolled, their loads need too many registers.
#let COLS = 4 / SPLIT
#let CHUNKS = Math.ceil(HEAD_DIM / (32 * SPLIT))
const TILE = 32u;
const TX = #{8 * SPLIT}u;
const LANES = #{64 * SPLIT}u;
const DEPTH = #{16 * SPLIT}u; // of the dot products' tile
const DEPTH_QUADS = #{4 * SPLIT}u;
const VALUE_ROWS = #{32 / SPLIT}u;
var<workgroup> operands: array<array<array<array<vec4f, 8>, 4>, DEPTH_QUADS>, 2>; // queries, keys: [DEPTH / 4, 4, 8] four rows of the tile
var<workgroup> weights: array<array<array<vec4f, 8>, TILE>, #{WEIGHTS}>; // [WEIGHTS, TILE, 8] four rows of the result
var<workgroup> values: array<array<vec4f, TX>, VALUE_ROWS>; // four columns of a chunk
