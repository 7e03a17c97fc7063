// Part of product_software.wgsl: w(c)_(u) = W[column, k + u], a row of W per lane; with LOW B[column, k + u].
#if LOW && !B_VEC4
#for u in 0..UNROLL
      {
#for i in 0..LOADS
        let q0_#{i} = b[(base + #{c * LANES + i}u) * sizes.rank + min(k + #{u}u, sizes.rank - 1u)];
#endfor
#include "product_software_select.wgsl"
        w#{c}_#{u} = q#{Math.log2(LOADS)}_0;
      }
#endfor
#elif NF4 && !LOW
#for h in 0..UNROLL / 8
      {
#for i in 0..LOADS
        let q0_#{i} = codes[((base + #{c * LANES + i}u) * sizes.K + k) / 8u + #{h}u];
#endfor
#include "product_software_select.wgsl"
        let word = q#{Math.log2(LOADS)}_0;
#for u in 0..8
        w#{c}_#{8 * h + u} = level((word >> #{4 * (u ^ 1)}u) & 15u) * scale#{c};
#endfor
      }
#endfor
#elif INT8 && !LOW
#for h in 0..UNROLL / 8
      {
#for i in 0..LOADS
        let q0_#{i} = codes[((base + #{c * LANES + i}u) * sizes.K + k) / 8u + #{h}u];
#endfor
#include "product_software_select.wgsl"
#for q in 0..2
        let quad#{q} = scale#{c} * unpack4x8snorm(q#{Math.log2(LOADS)}_0[#{q}]);
#for u in 0..4
        w#{c}_#{8 * h + 4 * q + u} = quad#{q}[#{u}];
#endfor
#endfor
      }
#endfor
#elif (BF16 || F16) && !LOW
#for h in 0..UNROLL / 8
      {
#for i in 0..LOADS
        let q0_#{i} = values[((base + #{c * LANES + i}u) * sizes.K + k) / 8u + #{h}u];
#endfor
#include "product_software_select.wgsl"
#for u in 0..4
        let pair#{u} = unpack(q#{Math.log2(LOADS)}_0[#{u}]);
        w#{c}_#{8 * h + 2 * u} = pair#{u}.x;
        w#{c}_#{8 * h + 2 * u + 1} = pair#{u}.y;
#endfor
      }
#endfor
#else
#for h in 0..UNROLL / 4
      {
#for i in 0..LOADS
#if LOW
        let q0_#{i} = b[((base + #{c * LANES + i}u) * sizes.rank + k) / 4u + #{h}u];
#else
        let q0_#{i} = values[((base + #{c * LANES + i}u) * sizes.K + k) / 4u + #{h}u];
#endif
#endfor
#include "product_software_select.wgsl"
#for u in 0..4
        w#{c}_#{4 * h + u} = q#{Math.log2(LOADS)}_0[#{u}];
#endfor
      }
#endfor
#endif
