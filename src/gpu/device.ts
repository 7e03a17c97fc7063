/** Finds an adapter, opens a device with every limit and wanted feature, and turns its errors into exceptions. */
import { QdoraError } from "../formats/error.js";
import { DeviceLostError, GpuError } from "./errors.js";
import { Ledger } from "./ledger.js";
import { adapterNames, findAdapter, traitsOf } from "./adapters.js";
import type { AdapterTraits } from "./traits.js";
import { restfully } from "./wait.js";

export interface OpenOptions {
  /** `software`, `hardware`, or a part of the adapter's name; default: the environment's QDORA_ADAPTER, else any. */
  readonly adapter?: string | undefined;
  /** Dawn backend; `null` compiles and validates with no driver. */
  readonly backend?: "null" | undefined;
  /** More of Dawn's toggles, for measuring. */
  readonly dawnFeatures?: readonly string[];
}

/** Holds Dawn's instance: if it is collected while the device lives, the process crashes. */
export interface Gpu {
  readonly instance: GPU;
  readonly device: GPUDevice;
  readonly traits: AdapterTraits;
  readonly ledger: Ledger;
  /** Throws what the device has reported since the last check: lost device or uncaptured error. */
  check(): void;
  /** Waits until all submitted work is done, then checks. */
  idle(): Promise<void>;
  destroy(): Promise<void>;
}

const WANTED: readonly GPUFeatureName[] = [
  "timestamp-query",
  "shader-f16",
  "subgroups",
  "subgroup-size-control",
  "chromium-experimental-subgroup-matrix" as GPUFeatureName,
];

async function loadDawn(): Promise<(flags: string[]) => GPU> {
  try {
    const dawn = await import("webgpu");
    Object.assign(globalThis, dawn.globals);
    return dawn.create;
  } catch (cause) {
    throw new QdoraError(
      "gpu",
      `the WebGPU runtime does not load on ${process.platform}-${process.arch}: ${String(cause)}`,
      "run `npm ci`; on Linux it needs glibc 2.34 or newer and libvulkan.so.1",
      { cause },
    );
  }
}

/**
 * Opens a device.
 * @throws QdoraError when no adapter fits, GpuError when the device cannot be made.
 */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  const create = await loadDawn();
  const wanted = options.adapter ?? process.env["QDORA_ADAPTER"];
  const toggles = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", ...(options.dawnFeatures ?? [])];
  const flags = [`enable-dawn-features=${toggles.join()}`, "disable-dawn-features=timestamp_quantization"];
  if (options.backend) flags.push(`backend=${options.backend}`);
  const { instance, adapter } = await findAdapter(
    (more) => create([...flags, ...more]),
    options.backend ? undefined : wanted,
  );
  const traits = traitsOf(adapter);
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
  const device = await adapter.requestDevice({
    requiredFeatures: WANTED.filter((f) => adapter.features.has(f)),
    requiredLimits,
  });
  return watch(instance, device, traits);
}

/** The names of all adapters that Dawn finds. */
export const listAdapters = async (): Promise<readonly string[]> => adapterNames(await loadDawn());

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupsPerDimension",
] as const;

function watch(instance: GPU, device: GPUDevice, traits: AdapterTraits): Gpu {
  let failure: QdoraError | undefined;
  let closing = false;
  void device.lost.then((info) => {
    if (!closing) failure = new DeviceLostError(info.reason, info.message);
  });
  device.onuncapturederror = (event) => {
    failure ??= new GpuError("uncaptured error", event.error.message);
  };
  const gpu: Gpu = {
    instance,
    device,
    traits,
    ledger: new Ledger(device),
    check: () => {
      if (failure) throw failure;
    },
    idle: async () => {
      await restfully(device.queue.onSubmittedWorkDone(), traits.isSoftware ? 2 : 0.2);
      gpu.check();
    },
    destroy: async () => {
      closing = true;
      await restfully(device.queue.onSubmittedWorkDone()).catch(() => undefined);
      device.destroy();
      // One more turn of the loop lets Dawn finish its callbacks before the process may end.
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
  return gpu;
}
