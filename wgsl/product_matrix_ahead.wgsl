// Part of product_matrix.wgsl: the loop over all terms where registers are many. What the next tile is made of is on its way while this
// one's products are made. The terms of p and B come first, in whole tiles.
  let k = lane % #{DEPTH / 4}u * 4u;
#if LOWRANK
#let RIGHT_TERMS = TILE_TERMS
  for (var at = 0u; at < low; at += DEPTH) {
    workgroupBarrier();
    let inverse = power_of_two(254u - b_field);
#for i in 0..BATCH
    store_x(lane, own#{i}, k, load_p_from(low_start#{i}, at + k) * (inverse * scale#{i}));
#endfor
    stage_b(lane, column0, at, power_of_two(b_field));
    workgroupBarrier();
    let terms = min(DEPTH, sizes.rank - at);
#include "product_matrix_rounds.wgsl"
  }
#endif
#for i in 0..BATCH
  var x#{i} = load_x_from(start#{i}, k);
#endfor
#if FETCH
#for c in 0..FETCHED
#for e in 0..WORDS
  var word#{c}_#{e} = codes[weight_at(lane, column0, 0u, #{c}u) / 8u + #{e}u];
#endfor
  var block#{c} = load_block(weight_at(lane, column0, 0u, #{c}u) / #{BLOCK}u);
#endfor
#endif
#if FETCH && SCALE_ROWS
  var g = g_of(row_of(lane, 0u));
#endif
#let RIGHT_TERMS = W_TERMS
  for (var at = 0u; at < sizes.K; at += DEPTH) {
    workgroupBarrier();
#for i in 0..BATCH
    store_x(lane, own#{i}, k, x#{i} * scale#{i});
#endfor
#if FETCH
#for c in 0..FETCHED
    {
#if SCALE_ROWS
      let scale = g * block_scale_of(block#{c});
#else
      let scale = block_scale_of(block#{c});
#endif
#for e in 0..WORDS
      store_word(lane, #{c}u, #{e}u, scale, word#{c}_#{e});
#endfor
    }
#endfor
#else
    stage_w(lane, column0, at);
#endif
    workgroupBarrier();
    // Past the end they are loaded from somewhere, and not used.
#for i in 0..BATCH
    x#{i} = load_x_from(start#{i}, at + DEPTH + k);
#endfor
#if FETCH
#for c in 0..FETCHED
#for e in 0..WORDS
    word#{c}_#{e} = codes[weight_at(lane, column0, at + DEPTH, #{c}u) / 8u + #{e}u];
#endfor
    block#{c} = load_block(weight_at(lane, column0, at + DEPTH, #{c}u) / #{BLOCK}u);
#endfor
#endif
#if FETCH && SCALE_ROWS
    g = g_of(row_of(lane, at + DEPTH));
#endif
    let terms = min(DEPTH, sizes.K - at);
#include "product_matrix_rounds.wgsl"
  }
