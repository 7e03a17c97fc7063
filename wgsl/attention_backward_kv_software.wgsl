// Attention backward for k and v on software adapters: ROWS keys of one kv head per lane, their k, v, d_k and d_v in
// registers, queries and d_o in workgroup memory, read at addresses that all lanes share, STEP at a time, head by head.
// A subgroup skips the queries that see none of its keys. Grid: LANES * ROWS keys, KV_HEADS. Needs: D % 4 = 0.
enable subgroups;
const LANES = #{LANES}u;
const BLOCK = #{LANES * ROWS}u; // keys of a workgroup
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
#for r in 0..ROWS
  let key#{r} = min(wg.x * BLOCK + lane * #{ROWS}u + #{r}u, last); // keys past the end repeat the last one
  let at#{r} = (key#{r} * KV_HEADS + kv) * QUADS;
  let past#{r} = last_query(key#{r});
#for c in 0..HEAD_DIM / 4
  let k#{r}_#{c} = k_quad(at#{r} + #{c}u) * sizes.scale;
  let v#{r}_#{c} = v_quad(at#{r} + #{c}u);
  var dk#{r}_#{c} = vec4f();
  var dv#{r}_#{c} = vec4f();
#endfor
#endfor
  let low = subgroupMin(key0);
  let high = subgroupMax(past#{ROWS - 1});
  let end = last_query(min((wg.x + 1u) * BLOCK - 1u, last));
  for (var head = kv * GROUP; head < (kv + 1u) * GROUP; head++) {
    for (var t0 = wg.x * BLOCK; t0 < end; t0 += QUERIES) {
      workgroupBarrier();
      for (var i = lane; i < QUERIES * QUADS; i += LANES) {
        let source = (min(t0 + i / QUADS, last) * HEADS + head) * QUADS + i % QUADS;
        queries[i] = q_quad(source);
        gradients[i] = d_o_quad(source);
      }
      for (var i = lane; i < QUERIES; i += LANES) {
        let source = min(t0 + i, last) * HEADS + head;
        rows[i] = statistics[source];
      }
      workgroupBarrier();
      let stop = min(t0 + QUERIES, high);
      for (var t = t0 + (max(low, t0) - t0) / #{STEP}u * #{STEP}u; t < stop; t += #{STEP}u) {
        let tile = (t - t0) * QUADS;
#for r in 0..ROWS
#for u in 0..STEP
        var s#{r}_#{u} = 0.0;
        var ds#{r}_#{u} = 0.0;
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
        {
          let x = queries[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
          s#{r}_#{u} += k#{r}_#{c}.x * x.x;
          s#{r}_#{u} += k#{r}_#{c}.y * x.y;
          s#{r}_#{u} += k#{r}_#{c}.z * x.z;
          s#{r}_#{u} += k#{r}_#{c}.w * x.w;
#endfor
        }
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
        {
          let x = gradients[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
          ds#{r}_#{u} += v#{r}_#{c}.x * x.x;
          ds#{r}_#{u} += v#{r}_#{c}.y * x.y;
          ds#{r}_#{u} += v#{r}_#{c}.z * x.z;
          ds#{r}_#{u} += v#{r}_#{c}.w * x.w;
#endfor
        }
#endfor
#endfor
#for u in 0..STEP
        let row#{u} = rows[t - t0 + #{u}u];
#for r in 0..ROWS
        let seen#{r}_#{u} = t + #{u}u >= key#{r} && t + #{u}u < past#{r};
        let p#{r}_#{u} = select(0.0, exp(clamp(s#{r}_#{u} - row#{u}.x, -80.0, 0.0)), seen#{r}_#{u});
        ds#{r}_#{u} = p#{r}_#{u} * (ds#{r}_#{u} - row#{u}.y);
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
        {
          let x = gradients[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
          dv#{r}_#{c} += p#{r}_#{u} * x;
#endfor
        }
#endfor
#for u in 0..STEP
        {
          let x = queries[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
          dk#{r}_#{c} += ds#{r}_#{u} * x;
#endfor
        }
#endfor
#endfor
      }
    }
  }
#for r in 0..ROWS
  if (wg.x * BLOCK + lane * #{ROWS}u + #{r}u <= last) {
#for c in 0..HEAD_DIM / 4
    d_k[at#{r} + #{c}u] = dk#{r}_#{c} * sizes.scale;
    d_v[at#{r} + #{c}u] = dv#{r}_#{c};
#endfor
  }
#endfor
}
