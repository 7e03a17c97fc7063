// Part of product_software.wgsl: of q0_0 .. q0_(S-1), one per lane of the subgroup, q(log2 S)_0 is the lane's own.
#for l in 0..Math.log2(S)
#for i in 0..S >> (l + 1)
      let q#{l + 1}_#{i} = select(q#{l}_#{2 * i}, q#{l}_#{2 * i + 1}, bit#{l});
#endfor
#endfor
