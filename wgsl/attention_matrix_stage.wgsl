// Part of the attention kernels on matrices: COLUMNS rows of v, k, d_o or q (SOURCE 0 .. 3), times the power of two of `field`, as f16
// into `other`: for scores, or with TURNED for a sum. A lane moves four values of four rows at a time.
  for (var i = lane; i < width * #{COLUMNS / 16}u; i += LANES) {
    let column = i % #{COLUMNS / 4}u * 4u;
    let d = i / #{COLUMNS / 4}u * 4u;
    var four: mat4x4f;
#for r in 0..4
#if SOURCE == 0
    four[#{r}] = load_v((min(j0 + column + #{r}u, last_j) * KV_HEADS + kv) * D, d);
#elif SOURCE == 1
    four[#{r}] = load_k((min(j0 + column + #{r}u, last_j) * KV_HEADS + kv) * D, d);
#elif SOURCE == 2
    four[#{r}] = load_d_o((min(t0 + column + #{r}u, last_t) * HEADS + head) * D, d);
#else
    four[#{r}] = load_q((min(t0 + column + #{r}u, last_t) * HEADS + head) * D, d);
#endif
#endfor
#if TURNED
    let columns = transpose(four);
#for r in 0..4
    store_other(d / #{MATRIX_N}u, d % #{MATRIX_N}u + #{r}u, column, columns[#{r}] * power_of_two(field));
#endfor
#else
#for r in 0..4
    store_other(d / COLUMNS * #{COLUMN_BLOCKS}u + column / #{MATRIX_N}u, column % #{MATRIX_N}u + #{r}u, d % COLUMNS, four[#{r}] * power_of_two(field));
#endfor
#endif
  }
