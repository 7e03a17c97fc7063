/** The bytes of a regular file, piece by piece from its start. FIFOs, folders and devices are refused. */
import { openFile } from "../formats/files.js";

const PIECE_BYTES = 1 << 18;

/** Each piece is memory of its own. @throws QdoraError if the file is missing or not a regular one */
export async function* readPieces(path: string): AsyncGenerator<Buffer> {
  const { handle } = await openFile(path);
  try {
    for (;;) {
      const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
      const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, null);
      if (bytesRead === 0) return;
      yield piece.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}
