// Part of the tiled attention kernels: dots(j)[i] = dot of row i and column j of the lane, over the whole head.
// Queries t0 .. and keys j0 ..; q and k, or with GRADIENTS d_o and v. Rows are queries, or with KEY_ROWS keys.
  for (var d0 = 0u; d0 < sizes.headDim; d0 += DEPTH) {
    workgroupBarrier();
    {
      let first = lane / DEPTH_QUADS % 8u * 4u;
      let d = d0 + lane % DEPTH_QUADS * 4u;
      var four: mat4x4f;
      if (lane < #{32 * SPLIT}u) {
#for i in 0..4
#if GRADIENTS
        four[#{i}] = load_d_o((min(t0 + first + #{i}u, last_t) * HEADS + head) * D, d);
#else
        four[#{i}] = load_q((min(t0 + first + #{i}u, last_t) * HEADS + head) * D, d);
#endif
#endfor
      } else {
#for i in 0..4
#if GRADIENTS
        four[#{i}] = load_v((min(j0 + first + #{i}u, last_j) * KV_HEADS + kv) * D, d);
#else
        four[#{i}] = load_k((min(j0 + first + #{i}u, last_j) * KV_HEADS + kv) * D, d);
#endif
#endfor
      }
      let columns = transpose(four);
#for i in 0..4
      operands[lane / #{32 * SPLIT}u][lane % DEPTH_QUADS][#{i}][first / 4u] = columns[#{i}];
#endfor
    }
    workgroupBarrier();
    let quads = min(DEPTH_QUADS, (sizes.headDim - d0 + 3u) / 4u);
    for (var d = 0u; d < quads; d++) {
#for u in 0..4
      {
        let rows = operands[#{KEY_ROWS ? 1 : 0}][d][#{u}][ty];
#if COLS == 4
        let columns = operands[#{KEY_ROWS ? 0 : 1}][d][#{u}][tx];
#for j in 0..4
        dots#{j} = fma(rows, vec4f(columns[#{j}]), dots#{j});
#endfor
#else
#for j in 0..COLS
        dots#{j} = fma(rows, vec4f(operands[#{KEY_ROWS ? 0 : 1}][d][#{u}][tx / #{SPLIT}u][tx % #{SPLIT}u * #{COLS}u + #{j}u]), dots#{j});
#endfor
#endif
      }
#endfor
    }
  }
