// Part of the attention kernels on matrices: which subgroup, lane and row this is.
  let lane = subgroup * #{LANES_PER_SUBGROUP}u + subgroup_lane;
  let subgroup_m = subgroup / #{SUBGROUPS_N}u;
  let subgroup_n = subgroup % #{SUBGROUPS_N}u;
  let row = lane / PARTS;
  let part = lane % PARTS;
  let width = (sizes.headDim + COLUMNS - 1u) / COLUMNS * COLUMNS;
