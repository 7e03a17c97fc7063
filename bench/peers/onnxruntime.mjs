// onnxruntime-node's products on its own build of Dawn. Input and results stay on the GPU; a small product whose result is read
// waits for all that were submitted before it. Nodes may not fall back to the CPU, and the profile must say that they did not.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installedVersions, requireFrom } from "./install.mjs";
import { FLOAT, onnxModel, UINT8 } from "./onnx_bytes.mjs";
import { BLOCK, dequantised, packed, transposed } from "./problem.mjs";

const ERRORS_ONLY = 3;
/** MatMulBnb4's `quant_type`. */
const NF4 = 1;
/** Its fast kernels want blocks of 32; both halves of a block of 64 have the same scale. */
const NBITS_BLOCK = 32;

/** What stands between x and y. */
function productNode(product, problem) {
  const { inputs, out, scales } = problem;
  const sizes = { K: inputs, N: out, block_size: BLOCK };
  switch (product) {
    case "MatMul": {
      const values = transposed(problem, dequantised(problem, "nf4"));
      const w = { name: "w", type: FLOAT, shape: [inputs, out], values };
      return { op: "MatMul", domain: "", attributes: {}, constants: [w] };
    }
    case "MatMulBnb4": {
      const codes = packed(problem, true);
      const constants = [
        { name: "codes", type: UINT8, shape: [codes.length], values: codes },
        { name: "absmax", type: FLOAT, shape: [scales.length], values: scales },
      ];
      return { op: product, domain: "com.microsoft", attributes: { ...sizes, quant_type: NF4 }, constants };
    }
    case "MatMulNBits": {
      const blocks = inputs / NBITS_BLOCK;
      const halves = Float32Array.from(
        { length: out * blocks },
        (_, i) => scales[Math.floor((i * NBITS_BLOCK) / BLOCK)],
      );
      const constants = [
        { name: "codes", type: UINT8, shape: [out, blocks, NBITS_BLOCK / 2], values: packed(problem, false) },
        { name: "scales", type: FLOAT, shape: [halves.length], values: halves },
      ];
      const attributes = { ...sizes, block_size: NBITS_BLOCK, bits: 4 };
      return { op: product, domain: "com.microsoft", attributes, constants };
    }
    default:
      throw new Error(`there is no product ${product}`);
  }
}

/** Which providers ran the nodes of a profile. */
function providers(folder) {
  const names = readdirSync(folder).flatMap((file) =>
    JSON.parse(readFileSync(join(folder, file), "utf8")).map((event) => event.args?.provider),
  );
  return [...new Set(names.filter((name) => name !== undefined))];
}

export async function open(packages) {
  const ort = requireFrom(packages)("onnxruntime-node");
  const create = (model, more = {}) =>
    ort.InferenceSession.create(model, {
      executionProviders: ["webgpu"],
      logSeverityLevel: ERRORS_ONLY,
      extra: { session: { disable_cpu_ep_fallback: "1" } },
      ...more,
    });
  const onGpu = { preferredOutputLocation: "gpu-buffer" };
  const f32 = (values, shape) => new ort.Tensor("float32", values, shape);
  const one = { name: "w", type: FLOAT, shape: [4, 4], values: new Float32Array(16) };
  const small = await create(
    onnxModel({ op: "MatMul", domain: "", attributes: {}, constants: [one], x: [1, 4], y: [1, 4] }),
  );
  const waitForAll = () => small.run({ x: f32(new Float32Array(4), [1, 4]) });

  /** y as the CPU gets it, from a session that keeps a profile. */
  async function checkedResult(model, x) {
    const folder = mkdtempSync(join(tmpdir(), "qdora-onnxruntime-"));
    try {
      const session = await create(model, {
        enableProfiling: true,
        profileFilePrefix: join(folder, "profile"),
      });
      const { y } = await session.run({ x });
      session.endProfiling();
      const ran = providers(folder);
      if (ran.join() !== "WebGpuExecutionProvider")
        throw new Error(`it ran on ${ran.join() || "no provider"}`);
      await session.release();
      return y.data;
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  return {
    adapter: "by its own Dawn, WebGpuExecutionProvider",
    versions: installedVersions("onnxruntime", packages),
    async prepare(product, problem) {
      const [xShape, yShape] = [
        [problem.tokens, problem.inputs],
        [problem.tokens, problem.out],
      ];
      const model = onnxModel({ ...productNode(product, problem), x: xShape, y: yShape });
      const host = f32(problem.x, xShape);
      const result = await checkedResult(model, host);
      const session = await create(model, onGpu);
      // A double negative is x, made on the GPU and left there.
      const negate = await create(
        onnxModel({ op: "Neg", domain: "", attributes: {}, constants: [], x: xShape, y: xShape }),
        onGpu,
      );
      const { y: minus } = await negate.run({ x: host });
      const { y: x } = await negate.run({ x: minus });
      return {
        result: () => result,
        async run(count) {
          for (let i = 0; i < count; i++) {
            const { y } = await session.run({ x });
            y.dispose();
          }
          await waitForAll();
        },
        async release() {
          minus.dispose();
          x.dispose();
          await negate.release();
          await session.release();
        },
      };
    },
    close: () => small.release(),
  };
}
