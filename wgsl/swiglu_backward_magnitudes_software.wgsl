// As swiglu_backward_magnitudes.wgsl, on a software adapter: a lane has COLS columns, LANES apart, so that a row's part of a workgroup is
// long and memory is read in order. Grid: column tiles.
const LANES = #{LANES}u;
#include "swiglu_backward_magnitudes_bindings.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
#for c in 0..COLS
  let column#{c} = (wg.x * #{COLS}u + #{c}u) * LANES + lane;
  let bias#{c} = biases_of(min(column#{c}, sizes.width - 1u));
  var sums#{c} = vec2f();
#endfor
  for (var t = 0u; t < sizes.N; t++) {
#for c in 0..COLS
    if (column#{c} < sizes.width) {
      let at = t * sizes.width + column#{c};
      let both = vec2f(gate[at], up[at]);
      let made = gradients(both[0], both[1], d[at]);
      sums#{c} = fma(made, both - bias#{c}, sums#{c});
      gate[at] = made[0];
      d[at] = made[1];
    }
#endfor
  }
#for c in 0..COLS
  if (column#{c} < sizes.width) {
    add(column#{c}, sums#{c});
  }
#endfor
}
