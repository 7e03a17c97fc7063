// Part of product_software.wgsl: w(c)_(u) = W[k + u, column], neighbouring columns on neighbouring lanes; with LOW B[k + u, column].
#for u in 0..UNROLL
      {
        let row = k + #{u}u;
#if INT8 && !LOW
        let at = row * sizes.M + first + #{c * SPREAD}u;
#for i in 0..Math.ceil(S / 8)
        let words#{i} = codes[at / 8u + #{i}u];
#endfor
#if S == 4
        let word = select(words0.x, words0.y, (at & 4u) != 0u);
#elif S == 8
        let word = select(words0.x, words0.y, bit2);
#else
        let word = select(select(words0.x, words0.y, bit2), select(words1.x, words1.y, bit2), bit3);
#endif
        // Its byte comes to the top, for its sign; tokens are scaled by absmax / 127.
        w#{c}_#{u} = f32(bitcast<i32>(word << (24u - 8u * (sid & 3u))) >> 24u);
#elif (BF16 || F16) && !LOW
        let at = row * sizes.M + first + #{c * SPREAD}u;
#for i in 0..Math.ceil(S / 8)
        let words#{i} = values[at / 8u + #{i}u];
#endfor
#if S == 4
        let pair = unpack(select(select(words0.x, words0.y, bit1), select(words0.z, words0.w, bit1), (at & 4u) != 0u));
#else
#for i in 0..S / 2
        let q1_#{i} = words#{i >> 2}[#{i & 3}];
#endfor
#for l in 1..Math.log2(S)
#for i in 0..S >> (l + 1)
        let q#{l + 1}_#{i} = select(q#{l}_#{2 * i}, q#{l}_#{2 * i + 1}, bit#{l});
#endfor
#endfor
        let pair = unpack(q#{Math.log2(S)}_0);
#endif
        w#{c}_#{u} = select(pair.x, pair.y, bit0);
#else
        let at = row * sizes.M + first + #{c * SPREAD}u;
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
        w#{c}_#{u} = q#{Math.log2(S)}_0;
#endif
      }
#endfor
