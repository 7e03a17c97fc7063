// GPU memory of runs by the planner: what `qdora plan --geometry` says, and what the run allocates to the byte.
import { resolveFinetuneConfig } from "../../dist/config/resolve.js";
import { fitMemory } from "../../dist/train/memory.js";
import { geometryShape } from "../../dist/train/plan.js";
import { table } from "../shared/table.mjs";

const [TOKENS, RANK] = [2048, 16];
const RESIDENT = [
  "llama-3.2-1b",
  "llama-2-7b",
  "mistral-7b",
  "qwen2.5-7b",
  "llama-3.1-8b",
  "qwen3-8b",
  "llama-2-13b",
];
/** Too large for anything but streaming. */
const STREAMED = ["llama-3.1-70b"];
const BYTES_OF = "llama-3.1-8b";

const LEAN = { optimizer: "adamw8bit", checkpoint_place: "host" };
const COLUMNS = [
  { title: "defaults", keys: {} },
  { title: "`optimizer: adamw8bit`", keys: { optimizer: "adamw8bit" } },
  { title: "and `checkpoint_place: host`", keys: LEAN },
  { title: "and `quant_head: int8`", keys: { ...LEAN, quant_head: "int8" } },
  { title: "or `quant_head: nf4`", keys: { ...LEAN, quant_head: "nf4" } },
  { title: "streamed, head as stored", keys: { ...LEAN, stream_layers: "all" } },
  { title: "streamed, `quant_head: nf4`", keys: { ...LEAN, quant_head: "nf4", stream_layers: "all" } },
];
const isStreamed = ({ keys }) => keys.stream_layers !== undefined;

async function planOf(geometry, keys) {
  const settings = await resolveFinetuneConfig({ rank: RANK, max_seq_length: TOKENS, ...keys }, undefined, [
    "model",
    "data",
    "output_dir",
  ]);
  return fitMemory(geometryShape(geometry, settings), settings, undefined);
}

const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
const percentMore = (more, than) => `${(100 * (more / than - 1)).toFixed(2)} %`;
const hostBytes = ({ host }) => [...host.values()].reduce((a, b) => a + b, 0);

export async function plansText() {
  const [totals, dora, hosts] = [[], [], []];
  for (const geometry of [...RESIDENT, ...STREAMED]) {
    console.error(`plans of ${geometry}`);
    const [bytes, more] = [[], []];
    for (const column of COLUMNS) {
      if (STREAMED.includes(geometry) && !isStreamed(column)) {
        bytes.push("");
        more.push("");
        continue;
      }
      const run = await planOf(geometry, column.keys);
      const { plan: lora } = await planOf(geometry, { ...column.keys, use_dora: false });
      bytes.push(gigabytes(run.plan.totalBytes));
      more.push(percentMore(run.plan.totalBytes, lora.totalBytes));
      if (column === COLUMNS.at(-1)) hosts.push(gigabytes(hostBytes(run)));
    }
    const { plan } = await planOf(geometry, LEAN);
    totals.push([geometry, ...bytes, hosts.at(-1), gigabytes(plan.bytesByKind.get("weight"))]);
    dora.push([geometry, ...more]);
  }
  const { plan } = await planOf(BYTES_OF, LEAN);
  const kinds = [...plan.bytesByKind].map(([kind, bytes]) => `${kind} ${(bytes / 1e6).toFixed(1)}`);
  const titles = COLUMNS.map(({ title }) => title);
  return [
    `## Runs over rows of ${TOKENS.toLocaleString("en-US")} tokens, QDoRA, rank ${RANK}, all linear layers`,
    "",
    `- NF4 with double quantisation; \`qdora plan --geometry NAME --max-seq-length ${TOKENS}\` and the keys of a column`,
    "- streamed (`stream_layers: all`): a layer's weights and all that is trained in it wait on the host and pass through two slots",
    "",
    table(["GPU memory", ...titles, "host memory of the last", "frozen weights of the layers alone"], totals),
    "",
    "What DoRA takes more than LoRA:",
    "",
    table(["", ...titles], dora),
    "",
    `Where the bytes of ${BYTES_OF} are with 8-bit moments and layer inputs on the host, in MB: ${kinds.join(", ")}.`,
  ].join("\n");
}
