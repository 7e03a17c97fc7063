// Block floating point, 16 bits a value: four values as whole numbers of 14 bits that share a power of two (8 bits).
// Words: m0 (14), m1 (14), low half of the exponent (4) | m2 (14), m3 (14), its high half (4).
fn shared_power(words: vec2u) -> f32 {
  return bitcast<f32>(((words.x & 15u) << 23u) | ((words.y & 15u) << 27u));
}

fn unpack_block(words: vec2u) -> vec4f {
  // Numbers stay at the top of their words: multiples of 2^18, which f32 holds exactly.
  let tops = vec4u(words.x, words.x << 14u, words.y, words.y << 14u) & vec4u(0xfffc0000u);
  return vec4f(bitcast<vec4i>(tops)) * shared_power(words);
}

// The power of two that they are multiples of.
fn block_step(words: vec2u) -> f32 {
  return 262144.0 * shared_power(words);
}

// One of the four.
fn unpack_value(words: vec2u, i: u32) -> f32 {
  let word = select(words.x, words.y, (i & 2u) != 0u);
  return f32(bitcast<i32>((word << (14u * (i & 1u))) & 0xfffc0000u)) * shared_power(words);
}
