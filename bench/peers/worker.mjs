// A process for each peer: a crash of its native code ends it alone. Answers the calls of `process_peer.mjs` one by one.
import { makeProblem } from "./problem.mjs";

const [, , name, packages] = process.argv;
const { open } = await import(`./${name}.mjs`);

let peer;
let problem;
const prepared = new Map();

const methods = {
  async open() {
    peer = await open(packages);
    const { adapter, bits, versions } = peer;
    return { adapter, bits, versions };
  },
  problem(tokens, shape) {
    problem = makeProblem(tokens, shape);
  },
  async prepare(product) {
    const made = await peer.prepare(product, problem);
    prepared.set(product, made);
    return { detail: made.detail ?? "", result: await made.result() };
  },
  async time(product, count) {
    const start = performance.now();
    await prepared.get(product).run(count);
    return (performance.now() - start) / count;
  },
  async release(product) {
    await prepared.get(product).release();
    prepared.delete(product);
  },
  async close() {
    await peer.close();
  },
};

let last = Promise.resolve();
process.on("message", ({ id, method, args }) => {
  last = last.then(async () => {
    try {
      process.send({ id, value: await methods[method](...args) });
    } catch (error) {
      process.send({ id, error: String(error?.message ?? error) });
    }
    if (method === "close") process.disconnect();
  });
});
