// Part of product_software.wgsl: w(c)_(u) = W[k + u, column] of codes, neighbouring columns on neighbouring lanes.
#for q in 0..UNROLL / 4
      let scale#{q} = scales[step][scale_block][#{q}];
#endfor
#for u in 0..UNROLL
      {
        let at = (k + #{u}u) * codes_row + codes_column;
        let words0 = codes[at];
#if WORDS == 8
        let words1 = codes[at + 1u];
#endif
#for c in 0..COLS
        {
#let WORD = c * S >> 3
#if S == 16
          let word = select(words#{WORD >> 2}[#{WORD & 3}], words#{WORD >> 2}[#{(WORD & 3) + 1}], bit3);
#elif WORDS == 1
          let word = words0;
#else
          let word = words0[#{WORD}];
#endif
          w#{c}_#{u} = level((word >> (shift + #{4 * (c * S & 7)}u)) & 15u) * scale#{u >> 2}[#{u & 3}];
        }
#endfor
      }
#endfor
