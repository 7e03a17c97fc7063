/** `packing: true`: short rows share a unit of up to max_seq_length tokens. Each row stays a sequence of its own (no attention across rows). */

/**
 * First fit in row order: each row goes into the first bin that has room, found in O(log bins) by a tree of the largest room.
 * @param lengths [rows] tokens of each row, each at most `capacity`
 * @returns the bins, each a list of row indices in rising order
 */
export function packRows(lengths: ArrayLike<number>, capacity: number): number[][] {
  let leaves = 1;
  while (leaves < lengths.length) leaves *= 2;
  // room[1] is the root; room[leaves + i] is what bin i has left.
  const room = new Float64Array(2 * leaves).fill(capacity);
  const roomAt = (node: number): number => room[node] ?? -1;
  const bins: number[][] = [];
  for (let row = 0; row < lengths.length; row++) {
    const length = lengths[row] ?? 0;
    let node = 1;
    while (node < leaves) node = roomAt(2 * node) >= length ? 2 * node : 2 * node + 1;
    room[node] = roomAt(node) - length;
    (bins[node - leaves] ??= []).push(row);
    for (node = Math.floor(node / 2); node >= 1; node = Math.floor(node / 2)) {
      room[node] = Math.max(roomAt(2 * node), roomAt(2 * node + 1));
    }
  }
  return bins;
}
