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

/** The adapter's name, and what a software one computes with: its speed depends on it. @param traits of `openGpu` */
export const adapterText = ({ name, isSoftware, subgroupMinSize }) =>
  isSoftware ? `${name}, vectors of ${32 * subgroupMinSize} bits` : name;

/** The versions of what is measured. */
export const ownVersions = () => ({ qdora: version, webgpu: installed("webgpu") });
