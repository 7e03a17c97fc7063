// Part of the attention kernels on matrices that own queries: most[0] and most[1], the largest magnitudes of k and v among the keys
// lowest .. last_j.
  {
    var most_k = 0.0;
    var most_v = 0.0;
    let quads = (last_j + 1u - lowest) * #{Math.ceil(HEAD_DIM / 4)}u;
    for (var first = lane; first < quads; first += 4u * LANES) {
#for b in 0..4
      {
        let i = min(first + #{b}u * LANES, quads - 1u);
        let at = ((lowest + i / #{Math.ceil(HEAD_DIM / 4)}u) * KV_HEADS + kv) * D;
        most_k = max(most_k, largest(load_k(at, i % #{Math.ceil(HEAD_DIM / 4)}u * 4u)));
        most_v = max(most_v, largest(load_v(at, i % #{Math.ceil(HEAD_DIM / 4)}u * 4u)));
      }
#endfor
    }
    offer_most(0u, most_k, subgroup_lane);
    offer_most(1u, most_v, subgroup_lane);
  }
  workgroupBarrier();
  let k_field = scale_field(take_most(0u), 14u);
  let v_field = scale_field(take_most(1u), 14u);
