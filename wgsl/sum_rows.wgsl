// Sums over the ROWS of a workgroup, each of LANES lanes that have a column each: up to eight numbers of a lane at a time, in the order
// of the rows. Rows are padded, so that lanes find numbers of one column in different banks.
const PITCH = #{LANES * ROWS + 4}u;
var<workgroup> parts: array<f32, #{8 * (LANES * ROWS + 4)}>; // [8, ROWS, LANES]

fn over_rows(number: u32, column: u32) -> f32 {
  var sum = 0.0;
#for row in 0..ROWS
  sum += parts[number * PITCH + #{row * LANES}u + column];
#endfor
  return sum;
}
