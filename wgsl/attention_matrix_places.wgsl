// Part of the attention kernels on matrices: which subgroup, lane and row this is, and the elements of a result's matrix that it has.
  let lane = subgroup * #{LANES_PER_SUBGROUP}u + subgroup_lane;
  let subgroup_m = subgroup / #{SUBGROUPS_N}u;
  let subgroup_n = subgroup % #{SUBGROUPS_N}u;
  let row = lane / PARTS;
  let part = lane % PARTS;
  let width = (sizes.headDim + COLUMNS - 1u) / COLUMNS * COLUMNS;
  let matrix_row = subgroup_m * #{X_PART}u + subgroup_lane / #{MATRIX_N}u * #{ROWS_EACH}u;
  let matrix_column = subgroup_n * #{TO * MATRIX_N}u + subgroup_lane % #{MATRIX_N}u;
  let matrix_element = subgroup * #{MATRIX_M * MATRIX_N}u + subgroup_lane / #{MATRIX_N}u * #{ROWS_EACH * MATRIX_N}u + subgroup_lane % #{MATRIX_N}u;
