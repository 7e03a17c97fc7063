// Part of products that read W eight values at a time: W[row, column .. column + 7] with `length` values in a row, column a multiple
// of 8. Past a row's end the values are any finite numbers.
#if NF4

fn load_codes(row: u32, column: u32, length: u32) -> u32 {
#if ALIGNED
  return codes[(row * length + column) / 8u];
#else
  return codes[row * ((length + 7u) / 8u) + column / 8u];
#endif
}

// Eight levels of a word; in a byte the first value is the high nibble.
fn decode_eight(word: u32) -> mat2x4f {
  return mat2x4f(
    vec4f(levels[(word >> 4u) & 15u], levels[word & 15u], levels[(word >> 12u) & 15u], levels[(word >> 8u) & 15u]),
    vec4f(levels[(word >> 20u) & 15u], levels[(word >> 16u) & 15u], levels[word >> 28u], levels[(word >> 24u) & 15u]));
}
#endif

fn load_eight(row: u32, column: u32, length: u32) -> mat2x4f {
  let at = row * length + column;
#if NF4
  let eight = decode_eight(load_codes(row, column, length));
#if ALIGNED
  return eight * block_scale(at / #{BLOCK}u);
#else
  // A block has at least eight terms: two blocks meet here at most.
  let first = block_scale(at / #{BLOCK}u);
  let second = block_scale((at + 7u) / #{BLOCK}u);
  let rest = #{BLOCK}u - at % #{BLOCK}u; // terms that are in the first block
  return mat2x4f(
    eight[0] * select(vec4f(second), vec4f(first), vec4u(0u, 1u, 2u, 3u) < vec4u(rest)),
    eight[1] * select(vec4f(second), vec4f(first), vec4u(4u, 5u, 6u, 7u) < vec4u(rest)));
#endif
#elif INT8
#if W_VEC4
  let words = codes[at / 8u];
#else
  let word = row * ((length + 3u) / 4u) + column / 4u;
  let words = vec2u(codes[word], codes[word + 1u]);
#endif
  return mat2x4f(unpack4x8snorm(words.x), unpack4x8snorm(words.y)) * absmax[row];
#elif (BF16 || F16) && W_VEC4
  let words = values[at / 8u];
  return mat2x4f(vec4f(unpack(words.x), unpack(words.y)), vec4f(unpack(words.z), unpack(words.w)));
#elif BF16 || F16
#for i in 0..5
  let pair#{i} = unpack(values[at / 2u + #{i}u]);
#endfor
  if ((at & 1u) != 0u) {
    return mat2x4f(vec4f(pair0.y, pair1, pair2.x), vec4f(pair2.y, pair3, pair4.x));
  }
  return mat2x4f(vec4f(pair0, pair1), vec4f(pair2, pair3));
#elif W_VEC4
  return mat2x4f(values[at / 4u], values[at / 4u + 1u]);
#else
  return mat2x4f(
    vec4f(values[at], values[at + 1u], values[at + 2u], values[at + 3u]),
    vec4f(values[at + 4u], values[at + 5u], values[at + 6u], values[at + 7u]));
#endif
}
