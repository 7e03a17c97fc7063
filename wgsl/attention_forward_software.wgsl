// Attention forward for software adapters: a lane per row, which is a query and one of the GROUP heads of a kv head; its
// q and o in registers, keys and values in workgroup memory, read at addresses that all lanes share, STEP keys at a time.
// A subgroup skips the keys that none of its rows sees. Grid: LANES rows of N * GROUP, KV_HEADS. Needs: D % 4 = 0.
enable subgroups;
const LANES = #{LANES}u;
const KEYS = #{KEYS}u; // of a tile, a multiple of STEP
const QUADS = #{HEAD_DIM / 4}u;
#include "attention_bindings.wgsl"
@group(0) @binding(5) var<storage, read_write> o: array<vec4f>; // [N, HEADS, QUADS]
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [N, HEADS]
var<workgroup> keys: array<vec4f, #{KEYS * HEAD_DIM / 4}>; // [KEYS, QUADS]
var<workgroup> values: array<vec4f, #{KEYS * HEAD_DIM / 4}>; // [KEYS, QUADS]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv = wg.y;
  let count = sizes.N * GROUP;
  let flat = min(wg.x * LANES + lane, count - 1u); // lanes past the end repeat the last row
  let at = flat / GROUP * HEADS + kv * GROUP + flat % GROUP;
  let row = sizes.queryRow + flat / GROUP;
  let first = first_key(row);
  let low = subgroupMin(first);
  let high = subgroupMax(row) + 1u;
#for c in 0..HEAD_DIM / 4
  let q#{c} = q[at * QUADS + #{c}u] * sizes.scale;
  var o#{c} = vec4f();
#endfor
  var largest = MASKED;
  var total = 0.0;
  let lowest = first_key(sizes.queryRow + wg.x * LANES / GROUP);
  let end = sizes.queryRow + (min((wg.x + 1u) * LANES, count) - 1u) / GROUP + 1u;
  for (var j0 = lowest; j0 < end; j0 += KEYS) {
    workgroupBarrier();
    for (var i = lane; i < KEYS * QUADS; i += LANES) {
      let source = (min(j0 + i / QUADS, end - 1u) * KV_HEADS + kv) * QUADS + i % QUADS;
      keys[i] = k[source];
      values[i] = v[source];
    }
    workgroupBarrier();
    let stop = min(j0 + KEYS, high);
    for (var j = j0 + (max(low, j0) - j0) / #{STEP}u * #{STEP}u; j < stop; j += #{STEP}u) {
      let tile = (j - j0) * QUADS;
#for u in 0..STEP
      var s#{u} = 0.0;
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
      {
        let x = keys[tile + #{u}u * QUADS + #{c}u];
        s#{u} += q#{c}.x * x.x;
        s#{u} += q#{c}.y * x.y;
        s#{u} += q#{c}.z * x.z;
        s#{u} += q#{c}.w * x.w;
      }
#endfor
#endfor
      var next = largest;
#for u in 0..STEP
      let seen#{u} = j + #{u}u >= first && j + #{u}u <= row;
      s#{u} = select(MASKED, s#{u}, seen#{u});
      next = max(next, s#{u});
#endfor
      let shrink = exp(max(largest - next, -80.0));
      largest = next;
      total *= shrink;
#for u in 0..STEP
      let p#{u} = select(0.0, exp(max(s#{u} - largest, -80.0)), seen#{u});
      total += p#{u};
#endfor
#for c in 0..HEAD_DIM / 4
      o#{c} *= shrink;
#for u in 0..STEP
      o#{c} += p#{u} * values[tile + #{u}u * QUADS + #{c}u];
#endfor
#endfor
    }
  }
  if (wg.x * LANES + lane < count) {
#for c in 0..HEAD_DIM / 4
    o[at * QUADS + #{c}u] = o#{c} / total;
#endfor
    lse[at] = largest + log(total);
  }
}
