// NF4 quantisation: the largest magnitude of each block, and codes. One workgroup per LANES words of 8 codes; blocks that
// reach beyond its words are read whole, so that no workgroup waits for another. Any adapter.
// WGSL may round a division by 2.5 ulp and may flush subnormals, bitsandbytes' codes allow neither: floats are handled
// as integers, mantissa and exponent, with the rounding of IEEE 754 written out.
const LANES = #{LANES}u;
const BLOCK = #{BLOCK}u; // a multiple of 8
const SLOTS = #{Math.ceil(LANES * 8 / BLOCK) + 1}u; // blocks that LANES words can touch
const SMALLEST = 0x006ce3eeu; // 1e-38: bitsandbytes divides by at least this
struct Sizes {
  out: u32,
  in: u32,
}
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> values: array<u32>; // [out, in] bits of f32
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [out, ceil(in / 8)]
@group(0) @binding(3) var<storage, read_write> absmax: array<u32>; // [ceil(out * in / BLOCK)] bits of f32
var<workgroup> largest: array<atomic<u32>, SLOTS>;

// The f32 midpoints between neighbouring levels; the last is never exceeded.
const BOUNDS = array<vec4f, 4>(
  vec4f(-0.8480963706970215, -0.6106328964233398, -0.4599952697753906, -0.33967941999435425),
  vec4f(-0.23460739850997925, -0.13791173696517944, -0.045525018125772476, 0.03979014977812767),
  vec4f(0.120255246758461, 0.2035212516784668, 0.2920137643814087, 0.3893125355243683),
  vec4f(0.5016634464263916, 0.6427869200706482, 0.8614784479141235, 4.0));

// mantissa * 2^exponent, the mantissa 0 or in [2^23, 2^24].
struct Parts {
  mantissa: u32,
  exponent: i32,
}

fn normalised(mantissa: u32, exponent: i32) -> Parts {
  let shift = countLeadingZeros(mantissa | 1u) - 8u;
  return Parts(mantissa << shift, exponent - i32(shift));
}

// The magnitude of a finite f32.
fn parts_of(bits: u32) -> Parts {
  let field = (bits >> 23u) & 255u;
  let fraction = bits & 0x7fffffu;
  return normalised(select(fraction, fraction | 0x800000u, field > 0u), i32(max(field, 1u)) - 150);
}

// Magnitudes too small for any bound become 0.
fn magnitude(p: Parts) -> f32 {
  let bits = (u32(max(p.exponent, -149) + 150) << 23u) + p.mantissa - 0x800000u;
  return select(bitcast<f32>(bits), 0.0, p.mantissa == 0u || p.exponent < -100);
}

// n / d rounded to `bits` bits after the leading one of n. Never halfway: d has an odd factor or divides n.
fn rounded_quotient(n: Parts, d: Parts, bits: u32) -> Parts {
  // The float quotient is a few units off; the remainder is exact modulo 2^32 and so small that this is all of it.
  var q = u32(f32(n.mantissa) / f32(d.mantissa) * f32(1u << bits));
  var rest = i32((n.mantissa << bits) - q * d.mantissa);
  let step = i32(d.mantissa);
  while (2 * rest > step) {
    q += 1u;
    rest -= step;
  }
  while (2 * rest < -step) {
    q -= 1u;
    rest += step;
  }
  return Parts(q, n.exponent - d.exponent - i32(bits));
}

// n / d in f32.
fn quotient(n: Parts, d: Parts) -> Parts {
  return rounded_quotient(n, d, select(24u, 23u, n.mantissa >= d.mantissa));
}

// 1 / d in f32, which is subnormal for the largest d.
fn reciprocal(d: Parts) -> Parts {
  let one = Parts(0x800000u, -23);
  let bits = select(24, 23, d.mantissa == 0x800000u);
  let lost = max(0, d.exponent + 23 + bits - 149);
  let r = rounded_quotient(one, d, u32(bits - lost));
  return normalised(r.mantissa, r.exponent);
}

// a * b in f32: 48 bits in two words of 24, then half to even.
fn product(a: Parts, b: Parts) -> Parts {
  let a1 = a.mantissa >> 12u;
  let a0 = a.mantissa & 0xfffu;
  let b1 = b.mantissa >> 12u;
  let b0 = b.mantissa & 0xfffu;
  let middle = a1 * b0 + a0 * b1;
  let low = ((middle & 0xfffu) << 12u) + a0 * b0;
  let high = a1 * b1 + (middle >> 12u) + (low >> 24u);
  let shift = select(1u, 0u, high >= 0x800000u);
  let rest = (low << (8u + shift)) >> 8u;
  let mantissa = (high << shift) | select(0u, (low >> 23u) & 1u, shift == 1u);
  let up = rest > 0x800000u || (rest == 0x800000u && (mantissa & 1u) == 1u);
  return Parts(mantissa + select(0u, 1u, up), a.exponent + b.exponent + 24 - i32(shift));
}

fn code_of(scaled: f32) -> u32 {
  var below = vec4u(0u);
#for i in 0..4
  below += select(vec4u(0u), vec4u(1u), vec4f(scaled) > BOUNDS[#{i}]);
#endfor
  return below.x + below.y + below.z + below.w;
}

// Flat index of the first value of a word.
fn first_value(word: u32) -> u32 {
  let words = (sizes.in + 7u) / 8u;
  return (word / words) * sizes.in + (word % words) * 8u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let count = sizes.out * sizes.in;
  let words = sizes.out * ((sizes.in + 7u) / 8u);
  let word = (wg.y * 32768u + wg.x) * LANES + lane;
  let begin = min(first_value(word - lane), count);
  let end = min(first_value(word - lane + LANES), count);
  let firstBlock = begin / BLOCK;
  let lastValue = min((end + BLOCK - 1u) / BLOCK * BLOCK, count);

  // Eight values of one block at a time.
  for (var i = firstBlock * BLOCK + lane * 8u; i < lastValue; i += LANES * 8u) {
    var bits = 0u;
    for (var k = i; k < min(i + 8u, lastValue); k++) {
      bits = max(bits, values[k] & 0x7fffffffu);
    }
    atomicMax(&largest[i / BLOCK - firstBlock], bits);
  }
  workgroupBarrier();

  // A block's maximum is written by the workgroup that has its first value.
  for (var block = firstBlock + lane; block * BLOCK < end; block += LANES) {
    if (block * BLOCK >= begin) {
      let isShort = count - block * BLOCK < BLOCK;
      absmax[block] = max(atomicLoad(&largest[block - firstBlock]), select(0u, SMALLEST, isShort));
    }
  }
  if (word >= words) {
    return;
  }

  let start = first_value(word);
  let stop = min(start + 8u, start - start % sizes.in + sizes.in);
  var packed = 0u;
  var block = 0xffffffffu;
  var divisor: Parts;
  var inverse: Parts;
  for (var i = start; i < stop; i++) {
    if (i / BLOCK != block) {
      block = i / BLOCK;
      divisor = parts_of(max(atomicLoad(&largest[block - firstBlock]), SMALLEST));
      inverse = reciprocal(divisor);
    }
    let x = parts_of(values[i]);
    var scaled: f32;
    if (count - block * BLOCK < BLOCK) {
      scaled = magnitude(quotient(x, divisor));
    } else {
      scaled = magnitude(product(x, inverse));
    }
    // In a byte the first value is the high nibble.
    let code = code_of(select(scaled, -scaled, values[i] >= 0x80000000u));
    packed |= code << (((i - start) ^ 1u) * 4u);
  }
  codes[word] = packed;
}
