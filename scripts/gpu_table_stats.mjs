// What the compilers said about a pipeline, in one form for all vendors: registers, spills, occupancy, instructions, cycles,
// and the innermost loop's instructions by class (from ops.py --all).

/** Shared memory, warps and workgroups that one SM holds. */
const NVIDIA = {
  rtx2060: { sharedBytes: 65536, warps: 32, groups: 16 },
  rtx3090: { sharedBytes: 102400, warps: 48, groups: 16 },
  rtx4090: { sharedBytes: 102400, warps: 48, groups: 24 },
  rtx5090: { sharedBytes: 102400, warps: 48, groups: 24 },
};

const BYTES = { f32: 4, u32: 4, i32: 4, f16: 2, vec2f: 8, vec4f: 16, vec4u: 16, vec2h: 4, vec4h: 8 };

/** Bytes of workgroup memory that expanded WGSL declares; array lengths are numbers or constants of the file. */
export function workgroupBytes(code) {
  const constants = new Map();
  for (const [, name, value] of code.matchAll(/^const (\w+) = (\d+)u;/gm)) constants.set(name, Number(value));
  let bytes = 0;
  for (const [, type] of code.matchAll(/var<workgroup> \w+: ([^;]+);/g)) {
    const lengths = [...type.matchAll(/, (\w+)>/g)].map(([, n]) => constants.get(n) ?? Number(n));
    const element = /(\w+)[,>]/.exec(type.replaceAll(/array<|atomic</g, ""))?.[1] ?? type;
    bytes += lengths.reduce((a, b) => a * b, BYTES[element] ?? NaN);
  }
  return bytes;
}

/**
 * @param line one JSON line of the tool
 * @param sharedBytes workgroup memory, which NVIDIA's statistics leave out
 */
export function pipelineStats(device, vendor, line, sharedBytes) {
  const [executable] = line.executables;
  if (!executable) return undefined;
  const { stats: s, subgroup } = executable;
  const invocations = line.workgroup.reduce((a, b) => a * b, 1);
  switch (vendor) {
    case "nvidia": {
      const sm = NVIDIA[device];
      const warps = Math.ceil(invocations / 32);
      const groups = Math.min(
        sm.groups,
        Math.floor(Math.min(s["Max warps/SM"], sm.warps) / warps),
        sharedBytes > 0 ? Math.floor(sm.sharedBytes / (sharedBytes + 1024)) : Infinity,
      );
      return {
        subgroup,
        registers: s["Number of GPRs"],
        spills: s["Spills to memory"] + s["Fills from memory"],
        occupancy: groups * warps,
        instructions: s["Instruction count"],
        cyclesPerLane: s["Static cycle count"] / 32,
      };
    }
    case "intel":
      return {
        subgroup,
        registers: s["Max live registers"],
        spills: s["Spills"] + s["Fills"],
        occupancy: undefined,
        instructions: s["Instructions"],
        cyclesPerLane: s["Cycles"] / subgroup,
      };
    case "amd":
      return {
        subgroup,
        registers: s["VGPRs"],
        spills: s["Spilled VGPRs"] + s["Spilled SGPRs"] + s["Scratch size"],
        // RADV counts in waves of 32.
        occupancy: s["Subgroups per SIMD"] / (subgroup / 32),
        instructions: s["Instructions"],
        cyclesPerLane: s["Inverse Throughput"] / subgroup,
      };
    default:
      throw new Error(`unknown vendor ${vendor}`);
  }
}

/** Classes that are no vector instructions: control flow, waiting, and what the scalar unit does. */
const isVector = (op) =>
  !/^(s_|sync|nop|bra|exit|bar|warpsync|bssy|bsync|if$|else|endif|while|break|cont|halt|ret|jmpi|send\.gateway|r2ur|u(mov|iadd|imad|lop|shf|isetp|sel|ldc|lea))/.test(
    op,
  );
const isMatrix = (op) => /^([hi]mma|dpas|v_s?wmma)/.test(op);
const isMultiplyAdd = (op) =>
  /^([fdh]?fma2?\b|ffma|hfma2|mad\b|v_(pk_|dual_)?(fma|fmac|mad_)|v_(dual_)?dot)/.test(op);
const isShared = (op) => /^((ld|st|atom)\.shared|lds|sts|ldsm|ds_|send\.slm)/.test(op);

/**
 * Of the innermost loop that multiplies most: instructions by class.
 * @param loops opcodes of each innermost loop
 */
export function multiplyingLoop(loops) {
  const counted = loops.map((ops) => ({
    vector: ops.filter(isVector).length,
    multiplyAdds: ops.filter(isMultiplyAdd).length,
    matrix: ops.filter(isMatrix).length,
    ops,
  }));
  return counted.toSorted((a, b) => b.matrix - a.matrix || b.multiplyAdds - a.multiplyAdds)[0];
}
