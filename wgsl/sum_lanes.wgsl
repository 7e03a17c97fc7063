  // sum0 .. of all LANES, a power of two, into those of the first LEFT: halves are added until no more are left. Lies in main, and needs
  // var<workgroup> sums: array<vec4f>, [SUMS, LANES / 2]. Uniform control flow only.
  for (var half = LANES / 2u; half >= #{LEFT}u; half /= 2u) {
    workgroupBarrier();
    if (lane >= half && lane < 2u * half) {
#for n in 0..SUMS
      sums[#{n * LANES / 2}u + lane - half] = sum#{n};
#endfor
    }
    workgroupBarrier();
    if (lane < half) {
#for n in 0..SUMS
      sum#{n} += sums[#{n * LANES / 2}u + lane];
#endfor
    }
  }
