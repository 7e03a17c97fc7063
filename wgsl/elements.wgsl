// The main function of kernels that say in `element(i)` what becomes of one element, and nothing of one past the end. One element a lane;
// on a software adapter a lane has EACH of them, one after the other, so that a workgroup goes through memory in order.
// Grid: groups of LANES * EACH elements, folded (grid1d).
@compute @workgroup_size(#{LANES})
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = (wg.y * 32768u + wg.x) * #{LANES * EACH}u + lane;
#if EACH > 1
  for (var e = 0u; e < #{EACH}u; e++) {
    element(first + e * #{LANES}u);
  }
#else
  element(first);
#endif
}
