/** `qdora doctor`: which GPU there is, what it can do, and what that means for training. */
import type { Command } from "commander";
import { listAdapters } from "../gpu/device.js";
import { formatBytes } from "../formats/bytes.js";
import { openTrusted, type MatrixTrust, type TrustedGpu } from "../kernels/trusted_gpu.js";
import { cacheFolder } from "../program/tuner.js";
import { runCommand } from "./run_command.js";

interface Finding {
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
}

const MATRICES: Readonly<Record<MatrixTrust, string>> = {
  absent: "subgroup matrices (tensor cores), for compute_dtype f16 and auto",
  untried: "subgroup matrices (tensor cores), for compute_dtype f16 (auto: on real GPUs alone)",
  right: "subgroup matrices (tensor cores), for compute_dtype f16 and auto; their numbers are right",
  wrong: "subgroup matrices (tensor cores): wrong with this driver, as said above",
};

function matrixUnits({ gpu, matrices }: TrustedGpu): string {
  if (matrices === "wrong") return "not used";
  const { length } = gpu.traits.matrixShapes;
  if (length === 0) return "no";
  const found = { absent: ", none that fits", untried: "", right: ", checked" };
  return `${length} shapes${found[matrices]}`;
}

function findings(trusted: TrustedGpu, adapters: readonly string[]): readonly Finding[] {
  const { traits: t } = trusted.gpu;
  const has = (feature: string): string => (t.features.has(feature) ? "yes" : "no");
  const subgroups =
    t.subgroupMinSize === t.subgroupMaxSize
      ? String(t.subgroupMinSize)
      : `${t.subgroupMinSize} to ${t.subgroupMaxSize}`;
  return [
    {
      name: "adapter",
      value: t.name,
      meaning: t.isSoftware ? "a software GPU: right numbers, slow; good for tests and tiny models" : "a GPU",
    },
    {
      name: "all adapters",
      value: adapters.join("; ") || "unknown",
      meaning: "--device takes a part of a name",
    },
    {
      name: "vendor",
      value: [t.vendor, t.architecture].filter(Boolean).join(" ") || "unknown",
      meaning: "kernel variants are measured for it once and remembered",
    },
    {
      name: "subgroups",
      value: t.subgroupMinSize > 0 ? subgroups : "no",
      meaning: "lanes that can exchange values",
    },
    { name: "f16", value: has("shader-f16"), meaning: "16-bit floats in kernels" },
    {
      name: "matrix units",
      value: matrixUnits(trusted),
      meaning: MATRICES[trusted.matrices],
    },
    { name: "timestamps", value: has("timestamp-query"), meaning: "exact kernel times" },
    { name: "largest buffer", value: formatBytes(t.maxBufferBytes), meaning: "one tensor can be this large" },
    {
      name: "largest binding",
      value: formatBytes(t.maxBindingBytes),
      meaning: "and a kernel sees at most this much of it; larger embeddings are split",
    },
    {
      name: "workgroup memory",
      value: formatBytes(t.maxWorkgroupBytes),
      meaning: "tiles of the products live here",
    },
    { name: "cache", value: cacheFolder(), meaning: "software GPU and tuning results (QDORA_CACHE)" },
  ];
}

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("show the GPU that would be used, its features, and what they mean")
    .option("--device <name>", "software, hardware, or a part of the adapter's name")
    .option("--json", "machine output on stdout")
    .action((options: { device?: string; json?: boolean }, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        const say = (line: string): void => void process.stderr.write(`${line}\n`);
        const trusted = await openTrusted({ adapter: options.device }, say);
        try {
          const rows = findings(trusted, await listAdapters());
          if (options.json) {
            process.stdout.write(
              `${JSON.stringify(Object.fromEntries(rows.map((r) => [r.name.replaceAll(" ", "_"), r.value])))}\n`,
            );
          } else {
            for (const r of rows)
              process.stderr.write(`${r.name.padEnd(17)} ${r.value.padEnd(34)} ${r.meaning}\n`);
          }
        } finally {
          await trusted.gpu.destroy();
        }
      }),
    );
}
