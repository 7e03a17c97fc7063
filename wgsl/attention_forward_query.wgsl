// Attention forward for very few queries over a long cache: one workgroup per query and PACK heads of one kv head. Keys on
// lanes for the scores, then columns on lanes (in PARTS groups of lanes, each with a share of the keys) for the sums.
// Any adapter. Grid: N * HEADS / PACK. The components of a vec4f are the PACK <= 4 heads. 12 KiB of workgroup memory.
const LANES = #{LANES}u;
const CHUNK = #{LANES * KEYS_PER_LANE}u; // keys at a time
#let QUADS = Math.ceil(HEAD_DIM / 4)
const QUADS = #{QUADS}u;
const PARTS = LANES / QUADS;
#include "attention_bindings.wgsl"
#if VEC4
@group(0) @binding(5) var<storage, read_write> o: array<vec4f>; // [N, HEADS, D / 4]
#else
@group(0) @binding(5) var<storage, read_write> o: array<f32>; // [N, HEADS, D]
#endif
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [N, HEADS]
#include "attention_loads.wgsl"
var<workgroup> query: array<vec4f, #{PACK * QUADS}>; // [PACK, QUADS]
var<workgroup> weights: array<vec4f, CHUNK>; // by key
var<workgroup> scratch: array<vec4f, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = min(wg.y * 32768u + wg.x, sizes.N * #{HEADS / PACK}u - 1u);
  let t = index / #{HEADS / PACK}u;
  let head = index % #{HEADS / PACK}u * #{PACK}u;
  let kv = head / GROUP;
  let row = sizes.queryRow + t;
  let first = first_key(row);
  for (var i = lane; i < #{PACK}u * QUADS; i += LANES) {
    query[i] = load_q((t * HEADS + head + i / QUADS) * D, i % QUADS * 4u) * sizes.scale;
  }
  workgroupBarrier();
  let column = lane % QUADS * 4u;
  let part = lane / QUADS;
  var largest = vec4f(MASKED);
  var total = vec4f();
#for h in 0..PACK
  var sum#{h} = vec4f();
#endfor
  for (var j0 = first; j0 <= row; j0 += CHUNK) {
    var next = largest;
#for u in 0..KEYS_PER_LANE
    var s#{u} = vec4f(MASKED);
    let key#{u} = j0 + #{u}u * LANES + lane;
    if (key#{u} <= row) {
      let at = (key#{u} * KV_HEADS + kv) * D;
      s#{u} = vec4f();
      for (var c = 0u; c < QUADS; c++) {
        let x = load_k(at, c * 4u);
#for h in 0..PACK
        s#{u}[#{h}] += dot(query[#{h}u * QUADS + c], x);
#endfor
      }
    }
    next = max(next, s#{u});
#endfor
    scratch[lane] = next;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        scratch[lane] = max(scratch[lane], scratch[lane + half]);
      }
    }
    workgroupBarrier();
    next = scratch[0];
    let shrink = exp(max(largest - next, vec4f(-80.0)));
    largest = next;
    total *= shrink;
#for u in 0..KEYS_PER_LANE
    let p#{u} = select(vec4f(), exp(max(s#{u} - largest, vec4f(-80.0))), key#{u} <= row);
    total += p#{u};
    weights[#{u}u * LANES + lane] = p#{u};
#endfor
    workgroupBarrier();
#for h in 0..PACK
    sum#{h} *= shrink[#{h}];
#endfor
    let count = min(CHUNK, row + 1u - j0);
    if (part < PARTS) {
      for (var i = part; i < count; i += PARTS) {
        let w = weights[i];
        let x = load_v(((j0 + i) * KV_HEADS + kv) * D, column);
#for h in 0..PACK
        sum#{h} += w[#{h}] * x;
#endfor
      }
    }
    workgroupBarrier();
  }
  scratch[lane] = total;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      scratch[lane] += scratch[lane + half];
    }
  }
  workgroupBarrier();
  total = scratch[0];
#for h in 0..PACK
  workgroupBarrier();
  scratch[lane] = sum#{h};
  workgroupBarrier();
  if (lane < QUADS) {
    var result = vec4f();
    for (var i = 0u; i < PARTS; i++) {
      result += scratch[i * QUADS + lane];
    }
    result /= total[#{h}];
    let at = (t * HEADS + head + #{h}u) * D + column;
#if VEC4
    o[at / 4u] = result;
#else
#for e in 0..4
    if (column + #{e}u < D) {
      o[at + #{e}u] = result[#{e}];
    }
#endfor
#endif
  }
  if (lane == 0u) {
    lse[t * HEADS + head + #{h}u] = largest[#{h}] + log(total[#{h}]);
  }
#endfor
}
