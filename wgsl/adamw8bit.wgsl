// AdamW over the factors of one arena with both moments in 8 bits (bitsandbytes' blockwise optimizer): moments are decoded, updated in
// f32, used for the step as they are, and coded again against their block's new maximum. Gradients are clipped by totals[2] (0 = skip
// the update) and zeroed afterwards. One workgroup for BLOCKS blocks of 256 values, a lane for four values, which share a word of codes.
// Grid: blocks / BLOCKS. Any adapter; limited by memory bandwidth.
const LANES = 64u;
const BLOCKS = #{BLOCKS}u;
// The smallest normal f32: adapters may take smaller ones for zero, and a block of zeros has none.
const SMALLEST = 0x1p-126f;
struct Sizes {
  blocks: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> step: array<f32>; // [16]
@group(0) @binding(2) var<storage, read> totals: array<f32>; // [16]
@group(0) @binding(3) var<storage, read> maps: array<f32>; // [2, 256] signed, unsigned; both rise
@group(0) @binding(4) var<storage, read_write> parameter: array<vec4f>; // [blocks, 64]
@group(0) @binding(5) var<storage, read_write> gradient: array<vec4f>; // [blocks, 64]
@group(0) @binding(6) var<storage, read_write> codes: array<u32>; // [2, blocks, 64] first moments, second moments
@group(0) @binding(7) var<storage, read_write> absmax: array<f32>; // [2, blocks]
var<workgroup> entries: array<f32, 512>; // maps
var<workgroup> tops: array<vec2f, LANES>;

fn decoded(word: u32, map: u32) -> vec4f {
  let code = (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
  return vec4f(entries[map + code.x], entries[map + code.y], entries[map + code.z], entries[map + code.w]);
}

fn packed(code: vec4u) -> u32 {
  return code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
}

// The code of the nearest entry, on a midpoint the even one: the search of bitsandbytes' CUDA kernel.
fn nearest(x: f32, map: u32) -> u32 {
  var pivot = 127u;
  var below = 0u;
  var above = 255u;
  for (var stride = 64u; stride > 0u; stride /= 2u) {
    if (x > entries[map + pivot]) {
      below = pivot;
      pivot += stride;
    } else {
      above = pivot;
      pivot -= stride;
    }
  }
  let value = entries[map + pivot];
  if (x > value) {
    return select(pivot, above, x > (entries[map + above] + value) * 0.5);
  }
  return select(pivot, below, x < (entries[map + below] + value) * 0.5);
}

// As bitsandbytes, a first moment keeps its sign: a small negative one does not become 0 (code 127).
fn nearest_signed(x: f32) -> u32 {
  let code = nearest(x, 0u);
  return select(code, min(code, 126u), x < 0.0);
}

// The largest of the workgroup's values, by component, for all lanes.
fn block_top(lane: u32, value: vec2f) -> vec2f {
  workgroupBarrier();
  tops[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      tops[lane] = max(tops[lane], tops[lane + half]);
    }
  }
  workgroupBarrier();
  return tops[0];
}

fn top_of(v: vec4f) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var i = lane; i < 512u; i += LANES) {
    entries[i] = maps[i];
  }
  workgroupBarrier();
  let clip = totals[2];
  let first = (wg.y * 32768u + wg.x) * BLOCKS;
  let end = min(first + BLOCKS, sizes.blocks);
  for (var block = first; block < end; block++) {
    let at = block * LANES + lane;
    if (clip > 0.0) {
      let at_second = sizes.blocks * LANES + at;
      let g = gradient[at] * clip;
      let m = step[7] * absmax[block] * decoded(codes[at], 0u) + step[9] * g;
      let v = step[8] * absmax[sizes.blocks + block] * decoded(codes[at_second], 256u) + step[10] * g * g;
      let kept = parameter[at] * (1.0 - step[1] * step[4]);
      parameter[at] = kept - step[1] / step[2] * m / (sqrt(v) / sqrt(step[3]) + step[5]);
      let top = block_top(lane, vec2f(top_of(abs(m)), top_of(v)));
      // All lanes have read the old maxima by now.
      storageBarrier();
      if (lane == 0u) {
        absmax[block] = top.x;
        absmax[sizes.blocks + block] = top.y;
      }
      let x = m / max(top.x, SMALLEST);
      let y = v / max(top.y, SMALLEST);
      codes[at] = packed(vec4u(nearest_signed(x.x), nearest_signed(x.y), nearest_signed(x.z), nearest_signed(x.w)));
      codes[at_second] = packed(vec4u(nearest(y.x, 256u), nearest(y.y, 256u), nearest(y.z, 256u), nearest(y.w, 256u)));
    }
    gradient[at] = vec4f();
  }
}
