// Attention backward for q on software adapters: rows on lanes as in attention_forward_software.wgsl, with their q, d_o and
// d_q in registers, keys and values in workgroup memory. Grid: LANES * ROWS rows of N * GROUP, KV_HEADS. Needs: D % 4 = 0.
enable subgroups;
const LANES = #{LANES}u;
const BLOCK = #{LANES * ROWS}u; // rows of a workgroup
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
#for r in 0..ROWS
  let flat#{r} = min(wg.x * BLOCK + lane * #{ROWS}u + #{r}u, count - 1u); // rows past the end repeat the last one
  let at#{r} = flat#{r} / GROUP * HEADS + kv * GROUP + flat#{r} % GROUP;
  let row#{r} = sizes.queryRow + flat#{r} / GROUP;
  let first#{r} = first_key(row#{r});
  let lse#{r} = statistics[at#{r}].x;
  let delta#{r} = statistics[at#{r}].y;
#for c in 0..HEAD_DIM / 4
  let q#{r}_#{c} = q_quad(at#{r} * QUADS + #{c}u) * sizes.scale;
  let g#{r}_#{c} = d_o_quad(at#{r} * QUADS + #{c}u);
  var d#{r}_#{c} = vec4f();
#endfor
#endfor
  let low = subgroupMin(first0);
  let high = subgroupMax(row#{ROWS - 1}) + 1u;
  let lowest = first_key(sizes.queryRow + wg.x * BLOCK / GROUP);
  let end = sizes.queryRow + (min((wg.x + 1u) * BLOCK, count) - 1u) / GROUP + 1u;
  for (var j0 = lowest; j0 < end; j0 += KEYS) {
    workgroupBarrier();
    for (var i = lane; i < KEYS * QUADS; i += LANES) {
      let source = (min(j0 + i / QUADS, end - 1u) * KV_HEADS + kv) * QUADS + i % QUADS;
      keys[i] = k_quad(source);
      values[i] = v_quad(source);
    }
    workgroupBarrier();
    let stop = min(j0 + KEYS, high);
    for (var j = j0 + (max(low, j0) - j0) / #{STEP}u * #{STEP}u; j < stop; j += #{STEP}u) {
      let tile = (j - j0) * QUADS;
#for r in 0..ROWS
#for u in 0..STEP
      var s#{r}_#{u} = 0.0;
      var ds#{r}_#{u} = 0.0;
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
      {
        let x = keys[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
        s#{r}_#{u} += q#{r}_#{c}.x * x.x;
        s#{r}_#{u} += q#{r}_#{c}.y * x.y;
        s#{r}_#{u} += q#{r}_#{c}.z * x.z;
        s#{r}_#{u} += q#{r}_#{c}.w * x.w;
#endfor
      }
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
      {
        let x = values[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
        ds#{r}_#{u} += g#{r}_#{c}.x * x.x;
        ds#{r}_#{u} += g#{r}_#{c}.y * x.y;
        ds#{r}_#{u} += g#{r}_#{c}.z * x.z;
        ds#{r}_#{u} += g#{r}_#{c}.w * x.w;
#endfor
      }
#endfor
#endfor
#for r in 0..ROWS
#for u in 0..STEP
      {
        let p = exp(clamp(s#{r}_#{u} - lse#{r}, -80.0, 0.0));
        ds#{r}_#{u} = select(0.0, p * (ds#{r}_#{u} - delta#{r}), j + #{u}u >= first#{r} && j + #{u}u <= row#{r});
      }
#endfor
#endfor
#for c in 0..HEAD_DIM / 4
#for u in 0..STEP
      {
        let x = keys[tile + #{u}u * QUADS + #{c}u];
#for r in 0..ROWS
        d#{r}_#{c} += ds#{r}_#{u} * x;
#endfor
      }
#endfor
#endfor
    }
  }
#for r in 0..ROWS
  if (wg.x * BLOCK + lane * #{ROWS}u + #{r}u < count) {
#for c in 0..HEAD_DIM / 4
    d_q[at#{r} * QUADS + #{c}u] = d#{r}_#{c} * sizes.scale;
#endfor
  }
#endfor
}
