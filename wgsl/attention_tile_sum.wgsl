// Part of the tiled attention kernels: sum(SUM)_(c)_(i) += weights(SUM) * rows of v, k, d_o or q (SOURCE 0 .. 3); `tile_rows` of them count.
#for c in 0..CHUNKS
  for (var i0 = 0u; i0 < tile_rows; i0 += VALUE_ROWS) {
    workgroupBarrier();
#for s in 0..4 / SPLIT
    {
      let i = lane / TX + #{8 * s}u;
      let d = #{32 * SPLIT * c}u + tx * 4u;
#if SOURCE == 0
      values[i][tx] = load_v((min(j0 + i0 + i, last_j) * KV_HEADS + kv) * D, d);
#elif SOURCE == 1
      values[i][tx] = load_k((min(j0 + i0 + i, last_j) * KV_HEADS + kv) * D, d);
#elif SOURCE == 2
      values[i][tx] = load_d_o((min(t0 + i0 + i, last_t) * HEADS + head) * D, d);
#else
      values[i][tx] = load_q((min(t0 + i0 + i, last_t) * HEADS + head) * D, d);
#endif
    }
#endfor
    workgroupBarrier();
    let rows_here = min(VALUE_ROWS, tile_rows - i0);
    for (var i = 0u; i < rows_here; i++) {
      let w = weights[#{SUM}][i0 + i][ty];
      let x = values[i][tx];
#for r in 0..4
      sum#{SUM}_#{c}_#{r} = fma(vec4f(w[#{r}]), x, sum#{SUM}_#{c}_#{r});
#endfor
    }
  }
#endfor
