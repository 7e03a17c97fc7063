// Part of the attention kernels on matrices whose rows are queries: their head, their rows, and the keys that these see.
  let index = wg.y * 32768u + wg.x;
  let head = index % HEADS;
  let kv = head / GROUP;
  let first_row = index / HEADS * ROWS;
#include "attention_matrix_places.wgsl"
  let last_t = sizes.N - 1u;
  let last_j = sizes.queryRow + min(first_row + ROWS - 1u, last_t);
  let own_t = min(first_row + row, last_t); // rows past the end repeat the last one
  let own_at = (own_t * HEADS + head) * D;
  let stream_row = sizes.queryRow + own_t;
  let first = first_key(stream_row);
  let lowest = first_key(sizes.queryRow + min(first_row, last_t));
