// What a table was measured with.
import { readFileSync } from "node:fs";
import { cpus } from "node:os";

const installed = (name) =>
  JSON.parse(readFileSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url), "utf8"))
    .version;
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

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
export const ownVersions = () => ({ qdora: version, webgpu: installed("webgpu") });
