// Attention backward for q on software adapters: a lane per row as in attention_forward_software.wgsl, with q, d_o and d_q
// in registers, keys and values in workgroup memory. Grid: LANES rows of N * GROUP, KV_HEADS. Needs: D % 4 = 0.
enable subgroups;
const LANES = #{LANES}u;
const KEYS = #{KEYS}u; // of a tile, a multiple of STEP
const QUADS = #{HEAD_DIM / 4}u;
#include "attention_bindings.wgsl"
@group(0) @binding(8) var<storage, read_write> d_q: array<vec4f>; // [N, HEADS, QUADS]
var<workgroup> keys: array<vec4f, #{KEYS * HEAD_DIM / 4}>; // [KEYS, QUADS]
var<workgroup> values: array<vec4f, #{KEYS * HEAD_DIM / 4}>; // [KEYS, QUADS]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv = wg.y;
  let count = sizes.N * GROUP;
  let flat = min(wg.x * LANES + lane, count - 1u); // lanes past the end repeat the last row
  let at = flat / GROUP * HEADS + kv * GROUP + flat % GROUP;
  let row = flat / GROUP;
  let first = first_key(row);
  let low = subgroupMin(first);
  let high = subgroupMax(row) + 1u;
  let row_lse = lse[at];
  let row_delta = delta[at];
#for c in 0..HEAD_DIM / 4
  let q#{c} = q[at * QUADS + #{c}u] * sizes.scale;
  let g#{c} = d_o[at * QUADS + #{c}u];
  var d#{c} = vec4f();
#endfor
  let lowest = first_key(wg.x * LANES / GROUP);
  let end = (min((wg.x + 1u) * LANES, count) - 1u) / GROUP + 1u;
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
      var ds#{u} = 0.0;
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
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
      {
        let x = values[tile + #{u}u * QUADS + #{c}u];
        ds#{u} += g#{c}.x * x.x;
        ds#{u} += g#{c}.y * x.y;
        ds#{u} += g#{c}.z * x.z;
        ds#{u} += g#{c}.w * x.w;
      }
#endfor
#endfor
#for u in 0..STEP
      let p#{u} = exp(clamp(s#{u} - row_lse, -80.0, 0.0));
      ds#{u} = select(0.0, p#{u} * (ds#{u} - row_delta), j + #{u}u >= first && j + #{u}u <= row);
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
      d#{c} += ds#{u} * keys[tile + #{u}u * QUADS + #{c}u];
#endfor
#endfor
    }
  }
  if (wg.x * LANES + lane < count) {
#for c in 0..HEAD_DIM / 4
    d_q[at * QUADS + #{c}u] = d#{c} * sizes.scale;
#endfor
  }
}
