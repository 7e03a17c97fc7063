// Makes a data set of many short rows, and measures how fast `qdora data` tokenises it and how much memory it takes, without and with the cache; then `finetune --dry-run`.
// usage: npm run bench:data [-- --rows 1000000] [--format jsonl|csv|chat] [--model models/tiny] [--keep FILE] [--json]
import { spawn } from "node:child_process";
import { createWriteStream, mkdtempSync, rmSync, statSync } from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const { values: flags } = parseArgs({
  options: {
    rows: { type: "string", default: "1000000" },
    format: { type: "string", default: "jsonl" },
    model: { type: "string", default: "models/tiny" },
    keep: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const ROWS = Number(flags.rows);
const WORDS =
  "the rain in spain falls mainly on a plain and we walk home under grey skies with old umbrellas while winter comes to every small town by the sea".split(
    " ",
  );

/** A fixed sequence: the same file every time. */
let state = 1;
const next = (below) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const sentence = (words) => Array.from({ length: words }, () => WORDS[next(WORDS.length)]).join(" ");

const ROW = {
  jsonl: (i) => JSON.stringify({ prompt: `Question ${i}: ${sentence(4)}?`, completion: ` ${sentence(5)}.` }),
  csv: (i) => `"Question ${i}: ${sentence(4)}?"," ${sentence(5)}."`,
  chat: (i) =>
    JSON.stringify({
      messages: [
        { role: "user", content: `Question ${i}: ${sentence(4)}?` },
        { role: "assistant", content: `${sentence(5)}.` },
      ],
    }),
};

async function writeRows(path) {
  const row = ROW[flags.format];
  if (!row) throw new Error(`--format ${flags.format} is none of ${Object.keys(ROW).join(", ")}`);
  const file = createWriteStream(path);
  if (flags.format === "csv") file.write("prompt,completion\n");
  for (let i = 0; i < ROWS;) {
    let text = "";
    for (const end = Math.min(ROWS, i + 4096); i < end; i++) text += `${row(i)}\n`;
    if (!file.write(text)) await once(file, "drain");
  }
  file.end();
  await once(file, "finish");
}

/** Runs the command line, and reads its peak memory when it ends. */
async function measure(args, env) {
  const began = performance.now();
  const probe = `process.on("exit", () => process.stderr.write("\\nPEAK " + process.resourceUsage().maxRSS + "\\n"))`;
  const child = spawn(
    process.execPath,
    ["--import", `data:text/javascript,${encodeURIComponent(probe)}`, resolve("dist/cli.js"), ...args],
    { env: { ...process.env, ...env } },
  );
  let [out, err] = ["", ""];
  child.stdout.on("data", (text) => (out += text));
  child.stderr.on("data", (text) => (err += text));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`qdora ${args.join(" ")} ended with ${code}: ${err}`);
  const peaks = [...err.matchAll(/^PEAK (\d+)$/gm)].map((match) => Number(match[1]) * 1024);
  return { seconds: (performance.now() - began) / 1000, peakBytes: Math.max(...peaks), out };
}

const folder = mkdtempSync(join(tmpdir(), "qdora-bench-"));
try {
  const path = flags.keep ?? join(folder, `rows.${flags.format === "csv" ? "csv" : "jsonl"}`);
  await writeRows(path);
  const env = { QDORA_CACHE: join(folder, "cache") };
  const data = ["data", path, "--model", flags.model, "--json", "--samples", "0"];
  const train = [
    "finetune",
    "--model",
    flags.model,
    "--data",
    path,
    "--output-dir",
    join(folder, "out"),
    "--dry-run",
  ];
  const first = await measure(data, env);
  const again = await measure(data, env);
  const dryRun = await measure(train, env);
  const { rows, tokens } = JSON.parse(first.out);
  const result = {
    rows,
    tokens,
    file_bytes: statSync(path).size,
    first: {
      seconds: first.seconds,
      rows_per_second: rows / first.seconds,
      tokens_per_second: tokens / first.seconds,
      peak_bytes: first.peakBytes,
    },
    cached: { seconds: again.seconds, peak_bytes: again.peakBytes },
    dry_run_cached: { seconds: dryRun.seconds, peak_bytes: dryRun.peakBytes },
  };
  if (flags.json) console.log(JSON.stringify(result));
  else {
    const line = (name, run) =>
      console.log(
        `${name.padEnd(24)} ${run.seconds.toFixed(1).padStart(7)} s  peak ${(run.peak_bytes / 1e6).toFixed(0)} MB`,
      );
    console.log(`${rows} rows, ${tokens} tokens, ${(result.file_bytes / 1e6).toFixed(0)} MB`);
    line("data, first time", result.first);
    console.log(
      `  ${Math.round(result.first.rows_per_second)} rows/s, ${Math.round(result.first.tokens_per_second)} tokens/s`,
    );
    line("data, from the cache", result.cached);
    line("finetune --dry-run", result.dry_run_cached);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
