/** Which of the machine's adapters a run takes, and which there are. */
import { QdoraError } from "../formats/error.js";
import type { AdapterTraits, MatrixShape } from "./traits.js";

interface AdapterInfo extends GPUAdapterInfo {
  readonly subgroupMatrixConfigs?: readonly MatrixShape[];
}

const SOFTWARE = /llvmpipe|lavapipe|swiftshader|softpipe|software|basic[ -]render/i;

/** lavapipe offers its matrices at every vector width and crashes on them with others than 256 bits (Mesa 26.1). */
const MATRIX_SUBGROUP = 8;

/**
 * What people call the adapter, and which driver it has. WebGPU has the model in lower case with hyphens ("nvidia-geforce-rtx-4090"),
 * and Dawn describes the driver ("NVIDIA: 580.65.06"), which says nothing of the model but where it is software ("llvmpipe: Mesa 26.1.6").
 */
function nameOf({ device, description, vendor }: GPUAdapterInfo): string {
  const model = device.replaceAll("-", " ").trim();
  if (description === "") return model || vendor || "unknown";
  return model === "" || SOFTWARE.test(description) ? description : `${model} (${description})`;
}

/** The adapter's properties as plain data. */
export function traitsOf(adapter: GPUAdapter): AdapterTraits {
  const info = adapter.info as AdapterInfo;
  const limits = adapter.limits;
  const isSoftware = info.isFallbackAdapter || SOFTWARE.test(`${info.description} ${info.device}`);
  const hasSubgroups = adapter.features.has("subgroups");
  const hasMatrices = !isSoftware || info.subgroupMaxSize === MATRIX_SUBGROUP;
  return {
    name: nameOf(info),
    vendor: info.vendor,
    architecture: info.architecture,
    isSoftware,
    subgroupMinSize: hasSubgroups ? (info.subgroupMinSize ?? 0) : 0,
    subgroupMaxSize: hasSubgroups ? (info.subgroupMaxSize ?? 0) : 0,
    features: new Set(adapter.features),
    matrixShapes: (hasMatrices ? (info.subgroupMatrixConfigs ?? []) : []).map((c) => ({
      componentType: c.componentType,
      resultComponentType: c.resultComponentType,
      M: c.M,
      N: c.N,
      K: c.K,
    })),
    maxBindingBytes: limits.maxStorageBufferBindingSize,
    maxBufferBytes: limits.maxBufferSize,
    maxWorkgroupBytes: limits.maxComputeWorkgroupStorageSize,
    maxWorkgroupInvocations: limits.maxComputeInvocationsPerWorkgroup,
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
  };
}

/** Makes an instance of Dawn with further flags. It must be kept alive as long as what comes of it. */
type Create = (flags: readonly string[]) => GPU;

interface Found {
  readonly instance: GPU;
  readonly adapter: GPUAdapter;
}

const HOW = "`scripts/with-gpu.sh COMMAND` runs any command with a software GPU where there is no other";

const request = (instance: GPU, options: GPURequestAdapterOptions = {}): Promise<GPUAdapter | null> =>
  instance.requestAdapter(options).catch(() => null);

/** Letters and digits alone, so that "RTX-4090" is part of "NVIDIA GeForce RTX 4090". The same stands in scripts/probe-adapter.mjs, which runs unbuilt. */
const plain = (text: string): string => text.toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, " ");

/** Whether a text names what is wanted; what has no letter or digit names nothing. */
function doesName(text: string, wanted: string): boolean {
  const part = plain(wanted).trim();
  return part !== "" && plain(text).includes(part);
}

/** @param dawnName by which Dawn knows it, where it was asked for by that */
function isWanted(traits: AdapterTraits, wanted: string | undefined, dawnName = ""): boolean {
  if (wanted === undefined || wanted === "") return true;
  if (wanted === "software") return traits.isSoftware;
  if (wanted === "hardware") return !traits.isSoftware;
  const { vendor, architecture, name } = traits;
  return doesName(`${vendor} ${architecture} ${name}`, wanted) || doesName(dawnName, wanted);
}

/**
 * The adapter that fits, of those that Dawn gives by itself; else the one that Dawn knows by that name, which reaches second adapters.
 * @param wanted `software`, `hardware`, or a part of a name or vendor; undefined = any
 * @throws QdoraError naming the adapters that there are
 */
export async function findAdapter(create: Create, wanted: string | undefined): Promise<Found> {
  const instance = create([]);
  for (const options of [
    { powerPreference: "high-performance" },
    { powerPreference: "low-power" },
    { forceFallbackAdapter: true },
  ] as const) {
    const adapter = await request(instance, options);
    if (adapter && isWanted(traitsOf(adapter), wanted)) return { instance, adapter };
  }
  const offered: string[] = [];
  for (const name of await adapterNames(create)) {
    const named = create([`adapter=${name}`]);
    const adapter = await request(named);
    const traits = adapter ? traitsOf(adapter) : undefined;
    if (adapter && traits && isWanted(traits, wanted, name)) return { instance: named, adapter };
    offered.push(traits?.vendor ? `${name}, vendor ${traits.vendor}` : name);
  }
  throw new QdoraError(
    "gpu",
    wanted ? `no adapter fits "${wanted}"` : "no GPU adapter was found",
    offered.length === 0
      ? HOW
      : `there ${offered.length === 1 ? "is" : "are"} ${offered.join("; ")}: give a part of a name or vendor, software or hardware`,
  );
}

/** At most so many are listed. */
const MOST = 16;

/** The names by which Dawn knows the machine's adapters. It tells them when it is asked for one that is not there. */
export async function adapterNames(create: (flags: string[]) => GPU): Promise<readonly string[]> {
  const text = await create(["adapter=\u0001"])
    .requestAdapter()
    .then(() => "", String);
  const names = [...text.matchAll(/^ *\* .*\bname: '(.+)'$/gm)].flatMap(([, name]) => name ?? []);
  return [...new Set(names)].slice(0, MOST);
}
