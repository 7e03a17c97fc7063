// The loops of a pipeline's machine code, each by itself: ops.py of the gpu-stats tool counts by depth, which puts a staging loop and
// a multiplying loop of one depth together. Reads the text that Mesa prints: NAK (NVIDIA), GEN (Intel), ACO (AMD).
// What encloses what is decided as in ops.py: a loop is what a backward branch encloses.

/** Instructions as [place, opcode], and backward jumps as [first place, last place]. */
function intel(lines) {
  const ops = [];
  const labels = new Map();
  const loops = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    const label = /^\s*(LABEL\d+):/.exec(line);
    if (label) {
      labels.set(label[1], [...(labels.get(label[1]) ?? []), ops.length]);
      continue;
    }
    const text = line.trim().replace(/^\([^)]*\)\s*/, "");
    const op = /^[a-z][a-z0-9_.]*/.exec(text)?.[0];
    if (op === undefined || (/^[ \t]/.test(line) && !line.trim().startsWith("(") && !text.startsWith("send")))
      continue;
    if (op === "while") {
      const heads = labels.get(/JIP:\s*(LABEL\d+)/.exec(line)?.[1]) ?? [];
      if (heads.length > 0) loops.push([Math.max(...heads), ops.length]);
    }
    const following = lines[i + 1] ?? "";
    ops.push(
      op.startsWith("send") ? `send.${/^[ \t]/.test(following) ? following.trim().split(/\s/)[0] : "?"}` : op,
    );
  }
  return { ops, loops };
}

function amd(lines) {
  const ops = [];
  const labels = new Map();
  const jumps = [];
  for (const line of lines) {
    const label = /^BB(\d+):/.exec(line);
    if (label) {
      labels.set(label[1], ops.length);
      continue;
    }
    const text = line.split(";")[0].trim();
    if (!/^[a-z]/.test(text)) continue;
    const jump = /^s_c?branch\w*\s+BB(\d+)/.exec(text);
    if (jump) jumps.push([jump[1], ops.length]);
    for (const part of text.split(" :: ")) ops.push(part.trim().split(/\s/)[0]);
  }
  const loops = jumps.map(([to, at]) => [labels.get(to) ?? Infinity, at]).filter(([a, b]) => a <= b);
  return { ops, loops };
}

/** Blocks can stand out of order here, so loops are the blocks that reach the jump without passing the head. */
function nvidia(lines) {
  const ops = [];
  const before = new Map();
  const edges = [];
  let block = -1;
  for (const line of lines) {
    const head = /^block(?:\.u)?\s+(\d+)\s/.exec(line);
    if (head) {
      block = Number(head[1]);
      continue;
    }
    const tail = /^\}\s*->\s*\[(.*)\]/.exec(line);
    if (tail) {
      for (const to of (tail[1].match(/\d+/g) ?? []).map(Number)) {
        before.set(to, [...(before.get(to) ?? []), block]);
        if (to <= block) edges.push([to, block]);
      }
      continue;
    }
    let text = line
      .split("//")[0]
      .trim()
      .replace(/^@!?u?p\w+\s+/, "");
    if (text.includes(" = ")) text = text.slice(text.indexOf(" = ") + 3);
    else if (text.startsWith("= ")) text = text.slice(2);
    if (text.trim() && block >= 0) ops.push([block, text.trim().split(/\s/)[0]]);
  }
  const loops = edges.map(([head, tail]) => {
    const body = new Set([head]);
    const todo = [tail];
    while (todo.length > 0) {
      const b = todo.pop();
      if (body.has(b)) continue;
      body.add(b);
      todo.push(...(before.get(b) ?? []));
    }
    return body;
  });
  return { ops, loops };
}

/** Opcodes of every loop that has no loop inside. */
export function innermostLoops(text, vendor) {
  const lines = text.split("\n");
  if (vendor === "nvidia") {
    const { ops, loops } = nvidia(lines);
    const merged = new Map(); // backward jumps to one head are one loop
    for (const body of loops)
      merged.set(Math.min(...body), new Set([...(merged.get(Math.min(...body)) ?? []), ...body]));
    const all = [...merged.values()];
    return all
      .filter((a) => !all.some((b) => b !== a && b.size < a.size && [...b].every((block) => a.has(block))))
      .map((body) => ops.filter(([b]) => body.has(b)).map(([, op]) => op));
  }
  const { ops, loops } = vendor === "intel" ? intel(lines) : amd(lines);
  const ends = new Map();
  for (const [a, b] of loops) ends.set(a, Math.max(b, ends.get(a) ?? 0));
  const all = [...ends];
  return all
    .filter(([a, b]) => !all.some(([c, d]) => (c > a && d <= b) || (c >= a && d < b)))
    .map(([a, b]) => ops.slice(a, b + 1));
}
