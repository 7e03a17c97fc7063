// Part of product_software.wgsl: adds x op(W), or with LOW p op(B), to the sums. UNROLL terms at a time.
#if LOW
  let end#{LOW} = sizes.rank;
#else
  let end#{LOW} = sizes.K;
#endif
  for (var k0 = 0u; k0 < end#{LOW}; k0 += KT) {
    workgroupBarrier();
    for (var i = lane; i < ROWS * QUADS; i += LANES) {
      let row = tile_row + i / QUADS;
      let quad = i % QUADS;
      let at = i / QUADS * #{UNROLL / 4}u + quad % #{UNROLL / 4}u;
#if LOW
      tile[quad / #{UNROLL / 4}u][at] = load_p(row, k0 + quad * 4u);
#else
      let v = load_x(row, k0 + quad * 4u);
#if BACKWARD && (INT8 || SCALE_ROWS && !NF4)
      let row_w = k0 + quad * 4u;
      var scale = vec4f(1.0);
#if INT8
      scale = vec4f(absmax[row_w], absmax[row_w + 1u], absmax[row_w + 2u], absmax[row_w + 3u]) / 127.0;
#endif
#if SCALE_ROWS
      scale *= vec4f(g_of(row_w), g_of(row_w + 1u), g_of(row_w + 2u), g_of(row_w + 3u));
#endif
      tile[quad / #{UNROLL / 4}u][at] = v * scale;
#else
      tile[quad / #{UNROLL / 4}u][at] = v;
#endif
#endif
    }
#if NF4 && BACKWARD && !LOW
    for (var i = lane; i < QUADS * BLOCKS; i += LANES) {
      let row = i / BLOCKS * 4u;
      // Whole vectors: a write to one component may touch the others.
      scales[row / #{UNROLL}u][i % BLOCKS][row % #{UNROLL}u / 4u] = vec4f(
#for u in 0..4
        g_of(k0 + row + #{u}u) * block_scale(((k0 + row + #{u}u) * sizes.M + tile_column) / #{BLOCK}u + i % BLOCKS),
#endfor
      );
    }
#endif
    workgroupBarrier();
#if (NF4 || INT8) && !BACKWARD && !LOW
#for c in 0..COLS
    var scale#{c}: f32;
    {
#for i in 0..LOADS
#if NF4
      let q0_#{i} = block_scale(((base + #{c * LANES + i}u) * sizes.K + k0) / #{BLOCK}u);
#else
      let q0_#{i} = absmax[base + #{c * LANES + i}u];
#endif
#endfor
#include "product_software_select.wgsl"
      scale#{c} = q#{Math.log2(LOADS)}_0;
    }
#endfor
#endif
    let steps = (min(KT, end#{LOW} - k0) + #{UNROLL - 1}u) / #{UNROLL}u;
    for (var step = 0u; step < steps; step++) {
      let k = k0 + step * #{UNROLL}u;
#for c in 0..COLS
#for u in 0..UNROLL
      var w#{c}_#{u}: f32;
#endfor
#if BACKWARD && (LOW || !NF4)
#include "product_software_backward.wgsl"
#elif !BACKWARD
#include "product_software_forward.wgsl"
#endif
#endfor
#if BACKWARD && NF4 && !LOW
#include "product_software_backward_nf4.wgsl"
#endif
#for r in 0..ROWS
#for h in 0..UNROLL / 4
      {
        let v = tile[step][#{r * UNROLL / 4 + h}u];
#for c in 0..COLS
        sum#{r}_#{c} = fma(v.x, w#{c}_#{4 * h}, sum#{r}_#{c});
        sum#{r}_#{c} = fma(v.y, w#{c}_#{4 * h + 1}, sum#{r}_#{c});
        sum#{r}_#{c} = fma(v.z, w#{c}_#{4 * h + 2}, sum#{r}_#{c});
        sum#{r}_#{c} = fma(v.w, w#{c}_#{4 * h + 3}, sum#{r}_#{c});
#endfor
      }
#endfor
#endfor
    }
  }
