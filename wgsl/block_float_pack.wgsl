// Four values as a block (block_float.wgsl). Rounded to nearest, ties to even, as far as 14 bits go. A block below 2^-96 is zero; one
// with NaN or infinity stays infinite.
fn pack_block(values: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(values) & vec4u(0x7fffffffu);
  let exponent = max(max(bits.x, bits.y), max(bits.z, bits.w)) >> 23u;
  if (exponent == 255u) {
    return vec2u(0x0004001fu);
  }
  if (exponent < 31u) {
    return vec2u();
  }
  let scaled = round(values * bitcast<f32>((266u - exponent) << 23u));
  let m = bitcast<vec4u>(clamp(vec4i(scaled), vec4i(-8191), vec4i(8191)));
  let e = exponent - 30u;
  return vec2u(
    (m.x << 18u) | ((m.y & 0x3fffu) << 4u) | (e & 15u),
    (m.z << 18u) | ((m.w & 0x3fffu) << 4u) | (e >> 4u),
  );
}
