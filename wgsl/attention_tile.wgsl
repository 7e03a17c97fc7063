// Workgroup memory of the tiled attention kernels: 64 lanes as 8 x 8, TILE = 32 queries and 32 keys at a time.
// Lane (ty, tx) holds rows 4 ty .. 4 ty + 3 of a result and its columns 4 tx .. 4 tx + 3 (plus 32 c for column chunk c).
const TILE = 32u;
const CHUNKS = #{Math.ceil(HEAD_DIM / 32)}u; // of 32 columns of a head
const DEPTH = 16u; // of the dot products' tile
var<workgroup> operands: array<vec4f, 256>; // queries, then keys: [DEPTH, 8] four rows of the tile
var<workgroup> weights: array<vec4f, #{256 * WEIGHTS}>; // [WEIGHTS, TILE, 8] four rows of the result
var<workgroup> values: array<vec4f, 256>; // [TILE, 8] four columns of a chunk
