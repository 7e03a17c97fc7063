/** Room on the disk of a path that is not there yet. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { checkFreeSpace } from "../../src/formats/disk_space.js";
import { expectRefusal, temporaryFolder } from "./made_files.js";

it("looks at the disk of the nearest folder that exists", async () => {
  const path = join(temporaryFolder(), "a", "b");
  await expect(checkFreeSpace(path, 1)).resolves.toBeUndefined();
  await expectRefusal(checkFreeSpace(path, 2 ** 60), path, /needs \d{19} bytes, but the disk has \d+ left/);
});
