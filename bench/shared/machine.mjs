// What a table was measured with.
import { cpus } from "node:os";
import { version } from "../../dist/formats/version.js";
import { dawnVersion } from "../../dist/gpu/dawn_version.js";

/** Processor, Node and day. */
export const machineText = () =>
  `${cpus().length} x ${cpus()[0].model}, node ${process.version}, ${new Date().toISOString().slice(0, 10)}`;

/** Bits of the vectors that a software adapter computes with: its speed depends on them. @param traits of `openGpu` */
export const vectorBits = ({ isSoftware, subgroupMinSize }) =>
  isSoftware && subgroupMinSize > 0 ? 32 * subgroupMinSize : undefined;

export function adapterText(traits) {
  const bits = vectorBits(traits);
  return bits === undefined ? traits.name : `${traits.name}, vectors of ${bits} bits`;
}

/** The versions of what is measured. */
export const ownVersions = () => ({ qdora: version, webgpu: dawnVersion() });
