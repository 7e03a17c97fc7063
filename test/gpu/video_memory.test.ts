import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { videoMemory } from "../../src/gpu/video_memory.js";

let folder: string;
const path = process.env["PATH"];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "qdora-vram-"));
  process.env["PATH"] = `${folder}/bin`;
  mkdirSync(join(folder, "bin"));
});
afterEach(() => {
  process.env["PATH"] = path;
  rmSync(folder, { recursive: true });
});

function amd(name: string, total: number, used: number): void {
  const device = join(folder, "drm", name, "device");
  mkdirSync(device, { recursive: true });
  writeFileSync(join(device, "mem_info_vram_total"), `${total}\n`);
  writeFileSync(join(device, "mem_info_vram_used"), `${used}\n`);
}

function nvidia(output: string): void {
  const file = join(folder, "bin", "nvidia-smi");
  writeFileSync(file, `#!/bin/sh\necho "${output}"\n`);
  chmodSync(file, 0o755);
}

describe("videoMemory", () => {
  it("reads the files of amdgpu, past connectors and cards without memory", async () => {
    amd("card0", 8e9, 5e8);
    mkdirSync(join(folder, "drm", "card0-HDMI-A-1"), { recursive: true });
    mkdirSync(join(folder, "drm", "card1", "device"), { recursive: true });
    expect(await videoMemory(join(folder, "drm"))).toEqual({ totalBytes: 8e9, freeBytes: 7.5e9 });
  });

  it("asks nvidia-smi", async () => {
    nvidia("6144, 5800");
    expect(await videoMemory(join(folder, "drm"))).toEqual({
      totalBytes: 6144 * 2 ** 20,
      freeBytes: 5800 * 2 ** 20,
    });
  });

  it("says nothing where there are several, or none", async () => {
    expect(await videoMemory(join(folder, "drm"))).toBeUndefined();
    nvidia("6144, 5800");
    amd("card0", 8e9, 5e8);
    expect(await videoMemory(join(folder, "drm"))).toBeUndefined();
    nvidia("N/A");
    expect((await videoMemory(join(folder, "drm")))?.totalBytes).toBe(8e9);
  });
});
