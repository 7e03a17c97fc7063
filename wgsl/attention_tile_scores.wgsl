// Part of the tiled attention kernels: dots(j)[i] = dot of row i and column j of the lane, over the whole head.
// Queries t0 .. and keys j0 ..; q and k, or with GRADIENTS d_o and v. Rows are queries, or with KEY_ROWS keys.
  for (var d0 = 0u; d0 < D; d0 += DEPTH) {
    workgroupBarrier();
    {
      let first = (lane / 4u) % 8u * 4u;
      let d = d0 + lane % 4u * 4u;
      var four: mat4x4f;
      if (lane < 32u) {
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
      let at = lane / 32u * 128u + lane % 4u * 32u + first / 4u;
#for i in 0..4
      operands[at + #{8 * i}u] = columns[#{i}];
#endfor
    }
    workgroupBarrier();
    for (var d = 0u; d < DEPTH; d++) {
      let rows = operands[#{KEY_ROWS ? 128 : 0}u + d * 8u + ty];
      let columns = operands[#{KEY_ROWS ? 0 : 128}u + d * 8u + tx];
#for j in 0..4
      dots#{j} += rows * columns[#{j}];
#endfor
    }
  }
