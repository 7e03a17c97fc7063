// Cross-entropy of one chunk of logits: token_loss[row + t] = log(sum exp(logits[t])) - logits[t, label], 0 where the label is not scored.
// BACKWARD also overwrites logits with (softmax - onehot) step[0]. One workgroup per token of LANES lanes.
// Any adapter; limited by memory bandwidth. VEC4 where V is a multiple of four.
const LANES = #{LANES}u;
const TERMS = #{TERMS}u;
struct Sizes {
  N: u32,
  V: u32,
  row: u32,
}
#if VEC4
alias Values = vec4f;
const WIDTH = 4u;
#else
alias Values = f32;
const WIDTH = 1u;
#endif
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> labels: array<i32>; // [tokens]
@group(0) @binding(2) var<storage, read_write> token_loss: array<f32>; // [tokens]
#if BACKWARD
@group(0) @binding(3) var<storage, read> step: array<f32>; // [16], the first is 1 / scored labels
@group(0) @binding(4) var<storage, read_write> logits: array<Values>; // [N, V / WIDTH]
#else
@group(0) @binding(4) var<storage, read> logits: array<Values>; // [N, V / WIDTH]
#endif
#include "reduce_sum.wgsl"
#include "reduce_max.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = wg.y * 32768u + wg.x;
  if (t >= sizes.N) { // the whole workgroup
    return;
  }
  let label = labels[sizes.row + t];
  let length = sizes.V / WIDTH;
  let start = t * length;
  if (label < 0) {
    if (lane == 0u) {
      token_loss[sizes.row + t] = 0.0;
    }
#if BACKWARD
    for (var i = lane; i < length; i += LANES) {
      logits[start + i] = Values();
    }
#endif
  } else {
    var highest = -3.4e38;
    for (var i = lane; i < length; i += LANES) {
#if VEC4
      let v = logits[start + i];
      highest = max(highest, max(max(v.x, v.y), max(v.z, v.w)));
#else
      highest = max(highest, logits[start + i]);
#endif
    }
    let top = reduce_max(lane, highest);
    var sum = Values();
    // A lane's terms are as many as a hundred thousand: in two steps, so that f32 does not lose the later ones.
    for (var first = lane; first < length; first += TERMS * LANES) {
      var part = Values();
      for (var i = first; i < min(first + TERMS * LANES, length); i += LANES) {
        part += exp(logits[start + i] - top);
      }
      sum += part;
    }
#if VEC4
    let total = reduce_sum(lane, sum.x + sum.y + sum.z + sum.w);
#else
    let total = reduce_sum(lane, sum);
#endif
    if (lane == 0u) {
#if VEC4
      let scored = logits[start + u32(label) / 4u][u32(label) % 4u];
#else
      let scored = logits[start + u32(label)];
#endif
      token_loss[sizes.row + t] = log(total) - (scored - top);
    }
#if BACKWARD
    workgroupBarrier(); // the label's logit has been read
    let scale = step[0] / total;
    for (var i = lane; i < length; i += LANES) {
      var gradient = exp(logits[start + i] - top) * scale;
#if VEC4
      let at = u32(label) - i * 4u;
      gradient -= select(vec4f(), vec4f(step[0]), vec4u(0u, 1u, 2u, 3u) == vec4u(at));
#else
      gradient -= select(0.0, step[0], i == u32(label));
#endif
      logits[start + i] = gradient;
    }
#endif
  }
}
