// Attention backward for k and v on software adapters: a lane per key of one kv head with k, v, d_k and d_v in registers,
// queries and d_o in workgroup memory, read at addresses that all lanes share, STEP queries at a time, head by head.
// A subgroup skips the queries that see none of its keys. Grid: LANES keys, KV_HEADS. Needs: D % 4 = 0.
enable subgroups;
const LANES = #{LANES}u;
const QUERIES = #{KEYS}u; // of a tile, a multiple of STEP
const QUADS = #{HEAD_DIM / 4}u;
#include "attention_bindings.wgsl"
@group(0) @binding(8) var<storage, read_write> d_k: array<vec4f>; // [N, KV_HEADS, QUADS]
@group(0) @binding(9) var<storage, read_write> d_v: array<vec4f>; // [N, KV_HEADS, QUADS]
var<workgroup> queries: array<vec4f, #{KEYS * HEAD_DIM / 4}>; // [QUERIES, QUADS]
var<workgroup> gradients: array<vec4f, #{KEYS * HEAD_DIM / 4}>; // [QUERIES, QUADS]
var<workgroup> rows: array<vec2f, QUERIES>; // lse, delta

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv = wg.y;
  let last = sizes.N - 1u;
  let key = min(wg.x * LANES + lane, last); // lanes past the end repeat the last key
  let at = (key * KV_HEADS + kv) * QUADS;
  let past = last_query(key);
  let low = subgroupMin(key);
  let high = subgroupMax(past);
#for c in 0..HEAD_DIM / 4
  let k#{c} = k[at + #{c}u] * sizes.scale;
  let v#{c} = v[at + #{c}u];
  var dk#{c} = vec4f();
  var dv#{c} = vec4f();
#endfor
  let end = last_query(min(wg.x * LANES + LANES - 1u, last));
  for (var head = kv * GROUP; head < (kv + 1u) * GROUP; head++) {
    for (var t0 = wg.x * LANES; t0 < end; t0 += QUERIES) {
      workgroupBarrier();
      for (var i = lane; i < QUERIES * QUADS; i += LANES) {
        let source = (min(t0 + i / QUADS, last) * HEADS + head) * QUADS + i % QUADS;
        queries[i] = q[source];
        gradients[i] = d_o[source];
      }
      for (var i = lane; i < QUERIES; i += LANES) {
        let source = min(t0 + i, last) * HEADS + head;
        rows[i] = vec2f(lse[source], delta[source]);
      }
      workgroupBarrier();
      let stop = min(t0 + QUERIES, high);
      for (var t = t0 + (max(low, t0) - t0) / #{STEP}u * #{STEP}u; t < stop; t += #{STEP}u) {
        let tile = (t - t0) * QUADS;
#for u in 0..STEP
        var s#{u} = 0.0;
        var ds#{u} = 0.0;
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
        {
          let x = queries[tile + #{u}u * QUADS + #{c}u];
          s#{u} += k#{c}.x * x.x;
          s#{u} += k#{c}.y * x.y;
          s#{u} += k#{c}.z * x.z;
          s#{u} += k#{c}.w * x.w;
        }
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
        {
          let x = gradients[tile + #{u}u * QUADS + #{c}u];
          ds#{u} += v#{c}.x * x.x;
          ds#{u} += v#{c}.y * x.y;
          ds#{u} += v#{c}.z * x.z;
          ds#{u} += v#{c}.w * x.w;
        }
#endfor
#endfor
#for u in 0..STEP
        let row#{u} = rows[t - t0 + #{u}u];
        let seen#{u} = t + #{u}u >= key && t + #{u}u < past;
        let p#{u} = select(0.0, exp(clamp(s#{u} - row#{u}.x, -80.0, 0.0)), seen#{u});
        ds#{u} = p#{u} * (ds#{u} - row#{u}.y);
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
        dv#{c} += p#{u} * gradients[tile + #{u}u * QUADS + #{c}u];
#endfor
#for u in 0..STEP
        dk#{c} += ds#{u} * queries[tile + #{u}u * QUADS + #{c}u];
#endfor
#endfor
      }
    }
  }
  if (wg.x * LANES + lane <= last) {
#for c in 0..HEAD_DIM / 4
    d_k[at + #{c}u] = dk#{c} * sizes.scale;
    d_v[at + #{c}u] = dv#{c};
#endfor
  }
}
