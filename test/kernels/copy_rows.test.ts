import { it } from "vitest";
import { callCopyRows } from "../../src/kernels/copy_rows.js";
import { compareWithTwin, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

it.each([
  [1, 1, 0],
  [7, 65, 3],
  [65, 33, 2],
])("copies %i rows of %i to row %i", async (N, width, row) => {
  const rows = N + row + 1;
  const call = callCopyRows(
    "test",
    { x: given("x", [N, width]), y: given("y", [rows, width]) },
    { N, width, row },
  );
  await compareWithTwin(context.gpu, call, {
    tolerance: 0,
    data: { x: randomF32(N * width, 1), y: randomF32(rows * width, 2) },
  });
});
