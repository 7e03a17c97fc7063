/**
 * How much memory the GPU has free, from what the system says: WebGPU itself does not tell. amdgpu's files in /sys, and
 * `nvidia-smi` where there is one. With several GPUs it is not known which one WebGPU takes, so nothing is said.
 */
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export interface VideoMemory {
  readonly totalBytes: number;
  /** Not used by the desktop and other programs right now. */
  readonly freeBytes: number;
}

const DRM = "/sys/class/drm";
const SMI_QUERY = ["--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"];

/** @param drm where the system lists its graphics cards */
async function amdCards(drm: string): Promise<readonly VideoMemory[]> {
  const names = await readdir(drm).catch(() => []);
  const cards: VideoMemory[] = [];
  for (const name of names.filter((n) => /^card\d+$/.test(n))) {
    const read = async (file: string): Promise<number> =>
      Number((await readFile(join(drm, name, "device", file), "utf8").catch(() => "")).trim());
    const [total, used] = [await read("mem_info_vram_total"), await read("mem_info_vram_used")];
    if (total > 0 && used >= 0) cards.push({ totalBytes: total, freeBytes: total - used });
  }
  return cards;
}

async function nvidiaCards(): Promise<readonly VideoMemory[]> {
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", SMI_QUERY, { timeout: 5000 });
    return stdout
      .trim()
      .split("\n")
      .map((line) => line.split(",").map(Number))
      .filter(([total = 0, free = 0]) => total > 0 && free >= 0)
      .map(([total = 0, free = 0]) => ({ totalBytes: total * 2 ** 20, freeBytes: free * 2 ** 20 }));
  } catch {
    // No such program, or it does not answer: no NVIDIA driver.
    return [];
  }
}

/** The memory of the only GPU with memory of its own; undefined where there is none or more than one. */
export async function videoMemory(drm = DRM): Promise<VideoMemory | undefined> {
  const cards = [...(await nvidiaCards()), ...(await amdCards(drm))];
  return cards.length === 1 ? cards[0] : undefined;
}
