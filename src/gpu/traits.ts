/** What a variant may ask about an adapter: plain data, so that plans and tests need no GPU. */

export interface MatrixShape {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface AdapterTraits {
  /** Model and driver: "nvidia geforce rtx 4090 (NVIDIA: 580.65.06)". Tuning, rates and checkpoints are told apart by it. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** A CPU pretending to be a GPU: wants other kernel shapes, and its "GPU memory" is host memory. */
  readonly isSoftware: boolean;
  /** 0 where the feature `subgroups` is missing. Sizes seen: 4 to 128; nothing may assume 32. */
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly features: ReadonlySet<string>;
  readonly matrixShapes: readonly MatrixShape[];
  readonly maxBindingBytes: number;
  readonly maxBufferBytes: number;
  readonly maxWorkgroupBytes: number;
  readonly maxWorkgroupInvocations: number;
  readonly maxStorageBuffers: number;
}

/** The WebGPU defaults: what a plan assumes when no adapter is at hand, and what `backend=null` is tested with. */
export const PORTABLE_TRAITS: AdapterTraits = {
  name: "portable",
  vendor: "",
  architecture: "",
  isSoftware: false,
  subgroupMinSize: 0,
  subgroupMaxSize: 0,
  features: new Set(),
  matrixShapes: [],
  maxBindingBytes: 134217728,
  maxBufferBytes: 268435456,
  maxWorkgroupBytes: 16384,
  maxWorkgroupInvocations: 256,
  maxStorageBuffers: 8,
};
