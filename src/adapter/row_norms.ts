/**
 * g = m / ||W + sBA|| of a layer's modules, where A, B or m changed: the base product runs over A as if its rows were tokens
 * (rank extra tokens per update); what follows is one call for all modules that lie in the same buffers.
 */
import {
  callAdapterGram,
  callDoraRowNorm,
  MOST_MODULES,
  type RowNormPlace,
} from "../kernels/dora_row_norm.js";
import { callProductForward } from "../kernels/product.js";
import type { Call } from "../program/kernel.js";
import { alignedBytes, memoryOf, tensor, tensorBytes, type Tensor } from "../program/tensor.js";
import type { ModuleAdapter } from "./layout.js";
import type { Linear } from "./linear.js";

/** What one call may bind of a buffer, and what all products A W^T of a layer may take at a time. */
const MOST_BYTES = 4 << 20;

interface DoraModule {
  readonly linear: Linear;
  readonly adapter: ModuleAdapter;
  readonly magnitude: Tensor;
  readonly squares: Tensor;
  readonly scales: Tensor;
}

function doraModules(linears: readonly Linear[]): readonly DoraModule[] {
  return linears.flatMap((linear) => {
    const { adapter, rowSquares: squares, scaleBias: scales } = linear;
    const magnitude = adapter?.parameters.magnitude;
    return adapter && magnitude && squares && scales ? [{ linear, adapter, magnitude, squares, scales }] : [];
  });
}

interface Region {
  readonly whole: Tensor;
  /** Elements at which the tensors begin. */
  readonly starts: readonly number[];
}

/** From the first to the last of some f32 tensors of one buffer as one; nothing where they are in several, or far apart. */
function regionOf(tensors: readonly Tensor[], most: number): Region | undefined {
  const [first] = tensors;
  const buffers = tensors.map(memoryOf);
  if (!first || buffers.some(({ name }) => name !== buffers[0]?.name)) return undefined;
  const offsetBytes = Math.min(...buffers.map((b) => b.offsetBytes));
  const end = Math.max(...tensors.map((t, i) => (buffers[i]?.offsetBytes ?? 0) + tensorBytes(t)));
  const starts = buffers.map((b) => (b.offsetBytes - offsetBytes) / 4);
  if (tensors.length === 1) return { whole: first, starts };
  if (end - offsetBytes > most) return undefined;
  const { dtype, kind } = first;
  const shape = [(end - offsetBytes) / 4];
  const name = `${first.name} to ${tensors.at(-1)?.name}`;
  if (first.view)
    return { whole: { name, shape, dtype, kind, view: { base: first.view.base, offsetBytes } }, starts };
  if (!first.arena) return undefined;
  return { whole: tensor(name, shape, dtype, kind, { ...first.arena, offsetBytes }), starts };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const productBytes = ({ adapter }: DoraModule): number =>
  alignedBytes(tensor("product", [adapter.rank, adapter.out]));

/** The modules as one, or nothing where they are not in the same buffers. */
function together(modules: readonly DoraModule[], label: string): readonly Call[] | undefined {
  const alone = modules.length === 1;
  if (modules.length > MOST_MODULES || (!alone && sum(modules.map(productBytes)) > MOST_BYTES))
    return undefined;
  const most = alone ? Infinity : MOST_BYTES;
  const a = regionOf(
    modules.map(({ adapter }) => adapter.parameters.a),
    Infinity,
  );
  const rest = regionOf(
    modules.flatMap(({ adapter, magnitude }) => [adapter.parameters.b, magnitude]),
    Infinity,
  );
  const squares = regionOf(
    modules.map((m) => m.squares),
    most,
  );
  const scales = regionOf(
    modules.map((m) => m.scales),
    most,
  );
  if (!a || !rest || !squares || !scales) return undefined;
  const { path } = modules[0]?.linear ?? { path: "" };
  const stride = Math.max(...modules.map(({ adapter }) => adapter.rank ** 2));
  const gram = tensor(`${path}.norm gram`, [modules.length * stride]);
  const product = tensor(`${path}.norm product`, [sum(modules.map(productBytes)) / 4]);
  let at = 0;
  const products = modules.map((module) => {
    const { rank, out } = module.adapter;
    const offsetBytes = at;
    at += productBytes(module);
    const { dtype, kind } = product;
    const view = { base: product, offsetBytes };
    return { name: `${module.linear.path}.norm product rows`, shape: [rank, out], dtype, kind, view };
  });
  const places = modules.map(({ adapter, linear }, m): RowNormPlace => {
    const { out, rank, scaling } = adapter;
    return {
      out,
      rank,
      scaling,
      hasBias: linear.scaleBias?.shape[1] === 2,
      b: rest.starts[2 * m] ?? 0,
      m: rest.starts[2 * m + 1] ?? 0,
      product: (products[m]?.view.offsetBytes ?? 0) / 4,
      square: squares.starts[m] ?? 0,
      scale: scales.starts[m] ?? 0,
    };
  });
  return [
    ...modules.map(({ adapter, linear }, m) =>
      callProductForward(
        `${linear.path} row norms`,
        { x: adapter.parameters.a, weight: linear.weight, y: products[m] ?? product },
        { N: adapter.rank },
      ),
    ),
    callAdapterGram(
      label,
      { a: a.whole, gram },
      modules.map(({ adapter }, m) => ({ rank: adapter.rank, in: adapter.in, at: a.starts[m] ?? 0 })),
      stride,
    ),
    callDoraRowNorm(
      label,
      { product, gram, parameters: rest.whole, squares: squares.whole, scales: scales.whole },
      places,
      stride,
    ),
  ];
}

/** Recomputes g of the modules of a layer. */
export function rowNormCalls(linears: readonly Linear[], label: string): readonly Call[] {
  const modules = doraModules(linears);
  if (modules.length === 0) return [];
  const calls =
    together(modules, label) ??
    modules.flatMap((module) => together([module], `${module.linear.path} row norms`) ?? []);
  return calls.map((call) => ({ ...call, onlyAfterUpdate: true }));
}
