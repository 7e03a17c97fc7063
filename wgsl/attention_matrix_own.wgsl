// Part of the attention kernels on matrices: the lane's own row of q, k, d_o or v (SOURCE 3, 1, 2, 0) as f16 into own(OWN), times a power
// of two that own(OWN)_field says. Also own(OWN)_most and own(OWN)_sum: the largest magnitude and the sum of all.
  var own#{OWN}_most = 0.0;
  var own#{OWN}_sum = 0.0;
  for (var d = part * 4u; d < width; d += 4u * PARTS) {
#if SOURCE == 0
    let v = load_v(own_at, d);
#elif SOURCE == 1
    let v = load_k(own_at, d);
#elif SOURCE == 2
    let v = load_d_o(own_at, d);
#else
    let v = load_q(own_at, d);
#endif
    own#{OWN}_most = max(own#{OWN}_most, largest(v));
    own#{OWN}_sum += dot(abs(v), vec4f(1.0));
  }
  own#{OWN}_most = max_of_row(own#{OWN}_most);
  own#{OWN}_sum = sum_of_row(own#{OWN}_sum);
  let own#{OWN}_field = scale_field(own#{OWN}_most, 14u);
  for (var d = part * 4u; d < width; d += 4u * PARTS) {
#if SOURCE == 0
    let half = vec4<f16>(load_v(own_at, d) * power_of_two(own#{OWN}_field));
#elif SOURCE == 1
    let half = vec4<f16>(load_k(own_at, d) * power_of_two(own#{OWN}_field));
#elif SOURCE == 2
    let half = vec4<f16>(load_d_o(own_at, d) * power_of_two(own#{OWN}_field));
#else
    let half = vec4<f16>(load_q(own_at, d) * power_of_two(own#{OWN}_field));
#endif
#for e in 0..4
    own#{OWN}[d / COLUMNS][row / #{X_PART}u][row % #{X_PART}u * STRIDE + d % COLUMNS + #{e}u] = half[#{e}];
#endfor
  }
