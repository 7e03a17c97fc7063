// Part of the tiled attention kernels: sum(SUM)_(c)_(i) += weights(SUM) * rows of v, k, d_o or q (SOURCE 0 .. 3).
#for c in 0..Math.ceil(HEAD_DIM / 32)
  workgroupBarrier();
  for (var i = lane; i < 256u; i += 64u) {
#if SOURCE == 0
    values[i] = load_v((min(j0 + i / 8u, last_j) * KV_HEADS + kv) * D, #{32 * c}u + i % 8u * 4u);
#elif SOURCE == 1
    values[i] = load_k((min(j0 + i / 8u, last_j) * KV_HEADS + kv) * D, #{32 * c}u + i % 8u * 4u);
#elif SOURCE == 2
    values[i] = load_d_o((min(t0 + i / 8u, last_t) * HEADS + head) * D, #{32 * c}u + i % 8u * 4u);
#else
    values[i] = load_q((min(t0 + i / 8u, last_t) * HEADS + head) * D, #{32 * c}u + i % 8u * 4u);
#endif
  }
  workgroupBarrier();
  for (var i = 0u; i < TILE; i++) {
    let w = weights[#{256 * SUM}u + i * 8u + ty];
    let x = values[i * 8u + tx];
#for r in 0..4
    sum#{SUM}_#{c}_#{r} += w[#{r}] * x;
#endfor
  }
#endfor
