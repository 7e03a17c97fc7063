// What the compilers said about a pipeline, in one form for all vendors.

/** Shared memory, warps and workgroups that one SM holds; the driver keeps 1 KiB per workgroup. */
const SM = {
  rtx2060: { sharedBytes: 65536, warps: 32, groups: 16 },
  rtx3090: { sharedBytes: 102400, warps: 48, groups: 16 },
  rtx4090: { sharedBytes: 102400, warps: 48, groups: 24 },
  rtx5090: { sharedBytes: 102400, warps: 48, groups: 24 },
};
const SM_RESERVED_BYTES = 1024;

/** How often the compilers' cycle estimates count a loop inside a loop. */
const INNER_ROUNDS = { nvidia: 10 ** Math.log2(3), intel: 10 * 10, amd: 8 * 4 };

const BYTES = { f32: 4, u32: 4, i32: 4, f16: 2, vec2f: 8, vec4f: 16, vec4u: 16 };

/** Bytes of workgroup memory that expanded WGSL declares; array lengths are numbers or constants of the file. */
export function workgroupBytes(code) {
  const constants = new Map();
  for (const [, name, value] of code.matchAll(/^const (\w+) = (\d+)u;/gm)) constants.set(name, Number(value));
  let bytes = 0;
  for (const [, type] of code.matchAll(/var<workgroup> \w+: ([^;]+);/g)) {
    const lengths = [...type.matchAll(/, (\w+)>/g)].map(([, n]) => constants.get(n) ?? Number(n));
    const element = /(\w+)[,>]/.exec(type.replaceAll(/array<|atomic</g, ""))?.[1] ?? type;
    if (BYTES[element] === undefined) throw new Error(`unknown element of workgroup memory: ${type}`);
    bytes += lengths.reduce((a, b) => a * b, BYTES[element]);
  }
  return bytes;
}

/**
 * @param line one JSON line of the tool
 * @param sharedBytes workgroup memory, which NVIDIA's statistics leave out
 * @returns cycles: of one subgroup
 */
export function pipelineStats(device, vendor, line, sharedBytes) {
  const [executable] = line.executables;
  const { stats: s, subgroup } = executable;
  const invocations = line.workgroup.reduce((a, b) => a * b, 1);
  switch (vendor) {
    case "nvidia": {
      const sm = SM[device];
      const warps = Math.ceil(invocations / 32);
      const groups = Math.min(
        sm.groups,
        Math.floor(Math.min(s["Max warps/SM"], sm.warps) / warps),
        sharedBytes > 0 ? Math.floor(sm.sharedBytes / (sharedBytes + SM_RESERVED_BYTES)) : Infinity,
      );
      return {
        subgroup,
        registers: s["Number of GPRs"],
        spills: s["Spills to memory"] + s["Fills from memory"],
        occupancy: groups * warps,
        instructions: s["Instruction count"],
        cycles: s["Static cycle count"],
      };
    }
    case "intel":
      return {
        subgroup,
        registers: s["Max live registers"],
        spills: s["Spills"] + s["Fills"],
        occupancy: undefined,
        instructions: s["Instructions"],
        cycles: s["Cycles"],
      };
    case "amd":
      return {
        subgroup,
        registers: s["VGPRs"],
        spills: s["Spilled VGPRs"] + s["Spilled SGPRs"] + s["Scratch size"],
        occupancy: s["Subgroups per SIMD"] / (subgroup / 32), // the driver counts in waves of 32
        instructions: s["Instructions"],
        cycles: s["Inverse Throughput"],
      };
    default:
      throw new Error(`unknown vendor ${vendor}`);
  }
}

/** Not vector instructions: control flow, waiting, and what a scalar unit does. */
const NOT_VECTOR =
  /^(s_|sync|nop|bra|exit|bar|warpsync|bssy|bsync|bclear|if$|else|endif|while|break|cont|halt|ret|jmpi|send\.gateway|r2ur|u(mov|iadd|imad|lop|shf|isetp|sel|ldc|lea))/;
const MATRIX = /^([hi]mma|dpas|v_s?wmma)/;
const MULTIPLY_ADD = /^([fdh]?fma2?\b|mad\b|v_(pk_|dual_)?(fma|fmac|mad_)|v_(dual_)?dot)/;

const count = (ops, pattern) => ops.filter((op) => pattern.test(op)).length;

/**
 * Of the innermost loop that multiplies most: instructions by class. Nothing where no loop multiplies.
 * @param loops opcodes of each innermost loop
 */
export function multiplyingLoop(loops) {
  const counted = loops.map((ops) => ({
    vector: ops.length - count(ops, NOT_VECTOR),
    multiplyAdds: count(ops, MULTIPLY_ADD),
    matrix: count(ops, MATRIX),
    matrixOp: ops.find((op) => MATRIX.test(op)),
  }));
  const [most] = counted.toSorted((a, b) => b.matrix - a.matrix || b.multiplyAdds - a.multiplyAdds);
  return most && most.matrix + most.multiplyAdds > 0 ? most : undefined;
}

/**
 * Multiply-adds of one lane per matrix instruction; where values are sums of two f16, several instructions make one. TILE_TERMS are those
 * of the low-rank part's loop: where it is another one, it has the most instructions, for as many multiply-adds.
 */
function matrixMultiplyAdds(loop, defines, subgroup) {
  const named = /m(\d+)n(\d+)k(\d+)/.exec(loop.matrixOp ?? "");
  const [M, N, K] = named
    ? named.slice(1).map(Number)
    : [defines.MATRIX_M, defines.MATRIX_N, defines.MATRIX_K];
  const { X_TERMS = 1, TILE_TERMS = 1 } = defines;
  return (M * N * K) / subgroup / (X_TERMS + TILE_TERMS - 1);
}

/** Estimated cycles of a subgroup per multiply-add of each of its lanes: a product's tile loop with the multiplying loop inside. */
export function cyclesPerMultiplyAdd(row, vendor) {
  const { loop, cycles, defines, subgroup } = row;
  if (!loop) return undefined;
  const each =
    loop.matrix > 0 ? loop.matrix * matrixMultiplyAdds(loop, defines, subgroup) : loop.multiplyAdds;
  return cycles / (each * INNER_ROUNDS[vendor]);
}

/**
 * One pipeline compiled twice, where what memory held decides: the first numbers, but the most registers and spills.
 * @returns the row, with the other compile as `other`
 */
export function withOther(row, other) {
  return {
    ...row,
    registers: Math.max(row.registers, other.registers),
    spills: Math.max(row.spills, other.spills),
    other,
  };
}
