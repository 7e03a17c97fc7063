// Part of the attention kernels on matrices: which subgroup, lane and row this is. With FEW, subgroups are told in a form whose bound
// Intel's compiler sees: only then it makes offsets part of messages.
  let lane = subgroup * #{LANES_PER_SUBGROUP}u + subgroup_lane;
#if FEW
  let subgroup_m = min(subgroup / #{SUBGROUPS_N}u, #{SUBGROUPS_M - 1}u);
  let subgroup_n = subgroup & #{SUBGROUPS_N - 1}u;
#else
  let subgroup_m = subgroup / #{SUBGROUPS_N}u;
  let subgroup_n = subgroup % #{SUBGROUPS_N}u;
#endif
  let row = lane / PARTS;
  let part = lane % PARTS;
  let width = (sizes.headDim + COLUMNS - 1u) / COLUMNS * COLUMNS;
#if LATE
  let zero = width / WIDTH - 1u; // which compilers do not know: addresses that are alike for them, they compute once and keep
#endif
