// Part of product_software.wgsl: w(c)_(u) = W[k + u, column], neighbouring columns on neighbouring lanes; with LOW B[k + u, column].
#for u in 0..UNROLL
      {
        let row = k + #{u}u;
        let at = row * sizes.M + base + #{c * SPREAD}u;
#if OWN && LOW
        w#{c}_#{u} = b[at];
#elif OWN && INT8
        w#{c}_#{u} = f32(bitcast<i32>(codes[at / 4u] << (24u - 8u * (sid & 3u))) >> 24u);
#elif OWN && (BF16 || F16)
        let pair = unpack(values[at / 2u]);
        w#{c}_#{u} = select(pair.x, pair.y, bit0);
#elif OWN
        w#{c}_#{u} = values[at];
#elif INT8 && !LOW
        let words = codes[at / 8u];
#if S == 4
        let word = select(words.x, words.y, (at & 4u) != 0u);
#else
        let word = select(words.x, words.y, bit2);
#endif
        // Its byte comes to the top, for its sign; tokens are scaled by absmax / 127.
        w#{c}_#{u} = f32(bitcast<i32>(word << (24u - 8u * (sid & 3u))) >> 24u);
#elif (BF16 || F16) && !LOW
        let words = values[at / 8u];
#if S == 4
        let pair = unpack(select(select(words.x, words.y, bit1), select(words.z, words.w, bit1), (at & 4u) != 0u));
#else
        let pair = unpack(select(select(words.x, words.y, bit1), select(words.z, words.w, bit1), bit2));
#endif
        w#{c}_#{u} = select(pair.x, pair.y, bit0);
#else
#if LOW && !B_VEC4
#for i in 0..S
        let q0_#{i} = b[at + #{i}u];
#endfor
#else
#for i in 0..S / 4
#if LOW
        let quad#{i} = b[at / 4u + #{i}u];
#else
        let quad#{i} = values[at / 4u + #{i}u];
#endif
#endfor
#for i in 0..S
        let q0_#{i} = quad#{i >> 2}[#{i & 3}];
#endfor
#endif
#include "product_software_select.wgsl"
        w#{c}_#{u} = q#{Math.log2(LOADS)}_0;
#endif
      }
#endfor
