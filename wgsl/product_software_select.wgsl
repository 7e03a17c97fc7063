// Part of product_software.wgsl: of q0_0 .. q0_(LOADS-1), q(log2 LOADS)_0 is the one that the bits bit0, bit1 .. name.
#for l in 0..Math.log2(LOADS)
#for i in 0..LOADS >> (l + 1)
      let q#{l + 1}_#{i} = select(q#{l}_#{2 * i}, q#{l}_#{2 * i + 1}, bit#{l});
#endfor
#endfor
