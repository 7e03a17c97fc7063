// Products of the peers against ours: same adapter, same data, checked, then timed in rounds in which all take turns.
import { median } from "../shared/numbers.mjs";
import { installPeer } from "./install.mjs";
import { productFlops, relativeError } from "./numbers.mjs";
import { startPeer } from "./process_peer.mjs";

/** Work of one timed run: long against the waiting for it. */
const RUN_MS = 60;

/**
 * name: in the table. against: which product of ours it is compared with. weights: which matrix it multiplies by.
 * least: what our rate over its rate has to be.
 */
export const PEER_PRODUCTS = [
  { peer: "onnxruntime", product: "MatMulBnb4", against: "nf4", weights: "nf4", least: 8 },
  { peer: "onnxruntime", product: "MatMulNBits", against: "nf4", weights: "int4", least: 3 },
  { peer: "onnxruntime", product: "MatMul", against: "f32", weights: "nf4", least: 6 },
  { peer: "tfjs", product: "matMul", against: "f32", weights: "nf4", least: 10 },
  { peer: "jax", product: "matmul", against: "f32", weights: "nf4", least: 10 },
];
/** Ours; the last one is only compared with. */
const OWN = ["nf4", "f32", "f32 of int4"];
/** Of the largest result: f32 sums of 2,048 terms in another order. A wrong scale, code or nibble is off by 1e-2 or more. */
const LARGEST_ERROR = 1e-4;

export const nameOf = ({ peer, product }) => `${peer} ${product}`;

/** Starts a peer; one that cannot be installed or does not run here is left out with a line that says why. */
async function openPeer(peer, say) {
  let child;
  try {
    child = startPeer(peer, installPeer(peer, say));
    return { peer, process: child, ...(await child.call("open")) };
  } catch (error) {
    child?.kill();
    say(`${peer} is left out: ${error.message}`);
    return { peer, reason: error.message };
  }
}

/** Prepares a product, and looks whether its numbers are right. @throws Error where they are not */
async function prepare(opened, product, expected) {
  const { detail, result } = await opened.process.call("prepare", product);
  const off = expected ? relativeError(result, expected) : 0;
  if (!(off <= LARGEST_ERROR))
    throw new Error(`wrong numbers, off by ${off.toExponential(1)} of the largest (limit ${LARGEST_ERROR})`);
  const time = (count) => opened.process.call("time", product, count);
  await time(1);
  const count = Math.max(1, Math.ceil(RUN_MS / (await time(1))));
  return { name: nameOf({ peer: opened.peer, product }), detail, result, off, time, count };
}

/** Every product of one shape, in turns. @returns rows with the median rate of each */
async function measureShape(own, peers, products, { tokens, shape, rounds }, say) {
  for (const { process } of [own, ...peers]) await process.call("problem", tokens, shape);
  const ours = {};
  for (const product of OWN) ours[product] = await prepare(own, product);
  const off = relativeError(ours.nf4.result, ours.f32.result);
  if (!(off <= LARGEST_ERROR))
    throw new Error(`our nf4 and f32 products of ${shape.join("->")} differ by ${off}`);
  const expected = { nf4: ours.f32.result, int4: ours["f32 of int4"].result };
  await own.process.call("release", "f32 of int4");
  const sides = [ours.nf4, ours.f32];
  const timed = [];
  for (const each of products) {
    const opened = peers.find(({ peer }) => peer === each.peer);
    if (!opened) continue;
    try {
      sides.push(await prepare(opened, each.product, expected[each.weights]));
      timed.push([opened, each.product]);
    } catch (error) {
      say(`${nameOf(each)} is left out at ${shape.join("->")}: ${error.message}`);
    }
  }
  const times = new Map(sides.map((side) => [side, []]));
  for (let round = 0; round < rounds; round++)
    for (const side of round % 2 === 0 ? sides : sides.toReversed())
      times.get(side).push(await side.time(side.count));
  for (const product of ["nf4", "f32"]) await own.process.call("release", product);
  for (const [opened, product] of timed) await opened.process.call("release", product);
  return sides.map((side) => {
    const ms = median(times.get(side));
    const rate = productFlops(tokens, shape) / ms / 1e6;
    return {
      tokens,
      shape: shape.join("->"),
      name: side.name,
      detail: side.detail,
      ms,
      gflops: rate,
      error: side.off,
    };
  });
}

/** @returns { adapter, peers: [{peer, versions, adapter} or {peer, reason}], rows } */
export async function measureProducts({ tokens, shapes, rounds, only }, say) {
  const products = PEER_PRODUCTS.filter((each) => nameOf(each).includes(only));
  const own = { peer: "qdora", process: startPeer("qdora") };
  const all = [];
  try {
    Object.assign(own, await own.process.call("open"));
    for (const peer of new Set(products.map((each) => each.peer))) all.push(await openPeer(peer, say));
    const peers = all.filter(({ reason }) => reason === undefined);
    const rows = [];
    for (const shape of shapes) {
      say(`products of ${tokens} tokens, ${shape.join("->")}`);
      rows.push(...(await measureShape(own, peers, products, { tokens, shape, rounds }, say)));
    }
    for (const { process } of [own, ...peers]) await process.call("close");
    const described = all.map(({ peer, versions, adapter, reason }) => ({ peer, versions, adapter, reason }));
    return {
      adapter: own.adapter,
      bits: own.bits,
      versions: own.versions,
      peers: described,
      rounds,
      tokens,
      rows,
    };
  } finally {
    for (const { process } of [own, ...all]) process?.kill();
  }
}
