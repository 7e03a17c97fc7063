// Part of the attention kernels on matrices: COLUMNS rows of v, k, d_o or q (SOURCE 0 .. 3), times the power of two of `field`, as f16
// into `other`: for scores, or with TURNED for a sum. A lane moves four values of TAKEN rows at a time, always of the same rows.
// With LATE, what depends on the lane is computed for every tile and every stage: its number has zeros added (there are fewer than
// 2^28 tiles) that compilers take for others.
#let TAKEN = FEW ? (TURNED ? 2 : 1) : 4
#let GROUPS = COLUMNS / TAKEN
#let STEP = LANES / GROUPS * 4
  {
#if LATE
  let of_lane = lane + (tile >> #{28 + 2 * TURNED + SOURCE % 2}u);
#else
  let of_lane = lane;
#endif
  let column = of_lane % #{GROUPS}u * #{TAKEN}u;
#if WIDTH % STEP == 0
  for (var turn = width / #{STEP}u; turn > 0u; turn--) {
    let d = (turn - 1u) * #{STEP}u + of_lane / #{GROUPS}u * 4u;
#else
  for (var d = of_lane / #{GROUPS}u * 4u; d < width; d += #{STEP}u) {
#endif
#for r in 0..TAKEN
#if SOURCE == 0
    let row#{r} = load_v((min(j0 + column + #{r}u, last_j) * KV_HEADS + kv) * D, d) * power_of_two(field);
#elif SOURCE == 1
    let row#{r} = load_k((min(j0 + column + #{r}u, last_j) * KV_HEADS + kv) * D, d) * power_of_two(field);
#elif SOURCE == 2
    let row#{r} = load_d_o((min(t0 + column + #{r}u, last_t) * HEADS + head) * D, d) * power_of_two(field);
#else
    let row#{r} = load_q((min(t0 + column + #{r}u, last_t) * HEADS + head) * D, d) * power_of_two(field);
#endif
#endfor
#if TURNED
#for e in 0..4
#for r in 0..TAKEN
    other[d / #{MATRIX_N}u][(d % #{MATRIX_N}u + #{e}u) * STRIDE + column + #{r}u] = f16(row#{r}[#{e}]);
#endfor
#endfor
#else
#for r in 0..TAKEN
#for e in 0..4
    other[d / COLUMNS * #{COLUMN_BLOCKS}u + column / #{MATRIX_N}u][(column % #{MATRIX_N}u + #{r}u) * STRIDE + d % COLUMNS + #{e}u] = f16(row#{r}[#{e}]);
#endfor
#endfor
#endif
  }
  }
