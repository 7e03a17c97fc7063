/** The version of Dawn's package: its compiler makes the machine code, so what is measured of a GPU holds for that version alone. */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function dawnVersion(): string {
  const { version } = require("webgpu/package.json") as { readonly version: string };
  return version;
}
