// g_j = m_j / c_j in scales (a bias there stays), with c_j^2 = ||W_j||^2 + 2 s B_j (A Wt)_j + s^2 B_j (A At) B_jt, the row norm of W + s B A;
// for COUNT modules that lie in the same buffers, one after the other. Bit m of BIAS: scales of module m have (g, bias).
// One lane per row; each module starts a workgroup. RANK: of all modules, where it is small and the same, which unrolls the loops.
// Any adapter; once per update.
const LANES = #{LANES}u;
struct Sizes {
#for m in 0..COUNT
  out#{m}: u32,
  rank#{m}: u32,
  scaling#{m}: f32,
  b#{m}: u32, // elements at which the module's parts begin
  m#{m}: u32,
  product#{m}: u32,
  square#{m}: u32,
  scale#{m}: u32,
#endfor
  stride: u32, // elements from one module's gram to the next
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> product: array<f32>; // [rank, out] A Wt
@group(0) @binding(2) var<storage, read> gram: array<f32>; // [rank, rank] A At
@group(0) @binding(3) var<storage, read> parameters: array<f32>; // the arena: B [out, rank], m [out]
@group(0) @binding(4) var<storage, read> squares: array<f32>; // [out] ||W_j||^2
@group(0) @binding(5) var<storage, read_write> scales: array<f32>; // [out] g, or [out, 2] g, bias

struct Module {
  out: u32,
  rank: u32,
  scaling: f32,
  b: u32,
  m: u32,
  product: u32,
  square: u32,
  gram: u32,
}

fn row_scale(is: Module, j: u32) -> f32 {
  var cross = 0.0;
  var square = 0.0;
#if RANK
#for r in 0..RANK
  let b#{r} = parameters[is.b + j * #{RANK}u + #{r}u];
  cross = fma(b#{r}, product[is.product + #{r}u * is.out + j], cross);
#endfor
#for r in 0..RANK
  {
    var inner = 0.0; // the gram is symmetric
#for i in 0..r
    inner = fma(gram[is.gram + #{r * RANK + i}u], b#{i}, inner);
#endfor
    square = fma(b#{r}, fma(gram[is.gram + #{r * RANK + r}u], b#{r}, 2.0 * inner), square);
  }
#endfor
#else
  for (var r = 0u; r < is.rank; r++) {
    var inner = 0.0;
    for (var i = 0u; i < is.rank; i++) {
      inner = fma(gram[is.gram + r * is.rank + i], parameters[is.b + j * is.rank + i], inner);
    }
    let value = parameters[is.b + j * is.rank + r];
    cross = fma(value, product[is.product + r * is.out + j], cross);
    square = fma(value, inner, square);
  }
#endif
  let norm2 = squares[is.square + j] + is.scaling * (2.0 * cross + is.scaling * square);
  var scale = 0.0; // of a row of zeros
  if (norm2 > 0.0) {
    scale = parameters[is.m + j] / sqrt(norm2);
  }
  return scale;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  var tile = wg.y * 32768u + wg.x;
#for m in 0..COUNT
  let tiles#{m} = (sizes.out#{m} + LANES - 1u) / LANES;
  if (tile < tiles#{m}) {
    let j = tile * LANES + lane;
    if (j < sizes.out#{m}) {
      let is = Module(sizes.out#{m}, sizes.rank#{m}, sizes.scaling#{m}, sizes.b#{m}, sizes.m#{m}, sizes.product#{m}, sizes.square#{m}, #{m}u * sizes.stride);
#if (BIAS >> m) & 1
      scales[sizes.scale#{m} + 2u * j] = row_scale(is, j);
#else
      scales[sizes.scale#{m} + j] = row_scale(is, j);
#endif
    }
    return;
  }
  tile -= tiles#{m};
#endfor
}
