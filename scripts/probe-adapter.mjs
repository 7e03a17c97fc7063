// Says which GPU the machine's own drivers give to Dawn: one line `hardware|software|none|unknown<TAB>NAME`.
// The look itself runs in a child process, so that a crash or a hang in a driver means "none".
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const LIMIT_MS = 20_000;
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|softpipe|software|basic[ -]render/i;

/** A device that cannot run one dispatch is no device. */
async function runsOneDispatch(adapter) {
  const device = await adapter.requestDevice();
  const module = device.createShaderModule({
    code: "@group(0) @binding(0) var<storage, read_write> out: array<u32>;\n@compute @workgroup_size(1) fn main() { out[0] = 42u; }",
  });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const made = device.createBuffer({ size: 4, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const read = device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: made } }],
    }),
  );
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(made, 0, read, 0, 4);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  const value = new Uint32Array(read.getMappedRange())[0];
  device.destroy();
  return value === 42;
}

/** Letters and digits alone, as in src/gpu/adapters.ts. */
const plain = (text) => text.toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, " ");

function isPart(text, wanted) {
  const part = plain(wanted).trim();
  return part !== "" && plain(text).includes(part);
}

const request = (instance, options) => instance.requestAdapter(options).catch(() => null);

/** The names by which Dawn knows the adapters: it tells them when it is asked for one that is not there. */
async function namesOf(create) {
  const nobody = create(["adapter=\u0001"]);
  const text = await nobody.requestAdapter().then(() => "", String);
  return [...text.matchAll(/^ *\* .*\bname: '(.+)'$/gm)].map(([, name]) => name);
}

/** All adapters that may fit: those that Dawn gives by itself, and with a name those that it knows by it. */
async function* candidates(create, wanted, isNamed) {
  const instance = create([]);
  for (const powerPreference of ["high-performance", "low-power"]) {
    const adapter = await request(instance, { powerPreference });
    if (!adapter) continue;
    const { vendor, architecture, device, description } = adapter.info;
    const fits = !isNamed || isPart(`${vendor} ${architecture} ${device} ${description}`, wanted);
    yield { adapter, fits };
  }
  if (!isNamed) return;
  for (const name of await namesOf(create)) {
    if (!isPart(name, wanted)) continue;
    const named = create([`adapter=${name}`]);
    const adapter = await request(named);
    if (adapter) yield { adapter, fits: true };
  }
}

async function look(wanted) {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  let software;
  const seen = new Set();
  for await (const { adapter, fits } of candidates(create, wanted, wanted !== "" && wanted !== "hardware")) {
    const info = adapter.info;
    const name = info.description || info.device || info.vendor || "unknown";
    seen.add(name);
    if (!fits || !(await runsOneDispatch(adapter).catch(() => false))) continue;
    if (!info.isFallbackAdapter && !SOFTWARE.test(`${info.description} ${info.device}`))
      return `hardware\t${name}`;
    software ??= name;
  }
  if (software !== undefined && wanted !== "hardware") return `software\t${software}`;
  return `none\t${seen.size ? `seen: ${[...seen].join(", ")}` : "WebGPU sees none"}`;
}

const [first = "", second = ""] = process.argv.slice(2);
if (first === "--look") {
  process.stdout.write(`${await look(second)}\n`, () => process.exit(0));
} else {
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), "--look", first], {
    encoding: "utf8",
    timeout: LIMIT_MS,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const line = /^(?:hardware|software|none)\t.*$/m.exec(child.stdout ?? "")?.[0];
  if (line !== undefined) console.log(line);
  else if (/ERR_MODULE_NOT_FOUND/.test(child.stderr ?? ""))
    console.log("unknown\tthe package webgpu is not installed");
  else console.log("none\tlooking for a GPU crashed or hung");
}
