/** `npm run bench:gpus`: skipping where the tool is absent, and reading machine code of three vendors. */
import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";

const NVIDIA = `block 0 [] {
  r1 = mov rZ
} -> [1]
block 1 [0, 2] {
  r2 = mov r1
} -> [2]
block 2 [1, 2] {
  r4..8 = hmma.m16n8k16.f32 r4..8 r8..12 r12..14 r4..8
  r3 = iadd3 r3 r1 rZ
  r9 = ldsm.16.m8n8.x4 [r3]
  @p0 bra L2
} -> [2, 3]
block 3 [2] {
  exit
}
`;

const AMD = `BB0:
	v_mov_b32_e32 v0, 0                                          ; 7e000280
BB1:
	v_add_nc_u32_e32 v0, 1, v0                                   ; 4a000081
BB2:
	v_dual_fmac_f32 v1, v2, v3 :: v_dual_fmac_f32 v4, v5, v6     ; c8000503
	ds_load_b64 v[7:8], v0                                       ; d9d80000
	s_cmp_lt_u32 s0, s1                                          ; bf0a0100
	s_cbranch_scc1 BB2                                           ; bfa20000
	s_branch BB1                                                 ; bfa00000
`;

const INTEL = `mov(8)          g1<1>UD         0x00000000UD                    { align1 1Q };

LABEL1:
add(8)          g2<1>D          g2<8,8,1>D      1D              { align1 1Q };

LABEL0:
(+f0.0) break(8) JIP:  LABEL2       UIP:  LABEL2                { align1 1Q };
send(8)         g3UD            g2UD            nullUD          0x02100500                0x00000000
                slm MsgDesc: ( load, a32, d32, V1 )  base_offset 0
sync nop(1)                     null<0,1,0>UB                   { align1 WE_all 1N };
dpas.8x8(8)     g4<1>F          g4<1,1,0>F      g3<1,1,0>HF     g9<1,1,0>HF { align1 WE_all 1Q };

LABEL2:
while(8)        JIP:  LABEL0                                    { align1 1Q };
while(8)        JIP:  LABEL1                                    { align1 1Q };
`;

/** Scripts are no part of the typed sources: they are asked in a process of their own. */
function countedIn(text: string, vendor: string): unknown {
  const program = `
    const { innermostLoops } = await import("./scripts/gpu_table/loops.mjs");
    const { multiplyingLoop } = await import("./scripts/gpu_table/stats.mjs");
    console.log(JSON.stringify(multiplyingLoop(innermostLoops(${JSON.stringify(text)}, "${vendor}"))));`;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout);
}

it("counts the innermost loop that multiplies, without the loops around it", () => {
  expect(countedIn(NVIDIA, "nvidia")).toMatchObject({ matrix: 1, multiplyAdds: 0, vector: 3 });
  expect(countedIn(AMD, "amd")).toMatchObject({ matrix: 0, multiplyAdds: 2, vector: 3 });
  expect(countedIn(INTEL, "intel")).toMatchObject({ matrix: 1, multiplyAdds: 0, vector: 2 });
});

const asked = (program: string): unknown => {
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout);
};

it("states the first of two compiles, with the registers and spills of both, and the other one's beside it", () => {
  const loop = (vector: number) => ({ vector, multiplyAdds: 0, matrix: 4 });
  const first = { registers: 90, spills: 0, instructions: 700, cycles: 5000, loop: loop(40) };
  const other = { ...first, registers: 95, spills: 3, cycles: 6000, loop: loop(60) };
  const merged = { ...first, registers: 95, spills: 3, other };
  expect(
    asked(`
      const { withOther } = await import("./scripts/gpu_table/stats.mjs");
      console.log(JSON.stringify(withOther(${JSON.stringify(first)}, ${JSON.stringify(other)})));`),
  ).toEqual(merged);
  const kernel = { kernel: "attention_forward", variant: "matrix", options: {}, defines: {}, subgroup: 8 };
  const device = { title: "A GPU", vendor: "intel", rows: [{ ...kernel, ...merged }] };
  const text = asked(`
    const { resultsText } = await import("./scripts/gpu_table/text.mjs");
    console.log(JSON.stringify(resultsText(${JSON.stringify([device])}, [])));`);
  expect(text).toMatch(/\| A GPU \|.* 9\.0 \(14\.0\) \|/);
  expect(text).toContain(
    "Not held: A GPU: 1 pipelines spill; A GPU: 9.0 others per matrix instruction of attention.",
  );
  expect(text).toContain("A GPU: 14.0 others per matrix instruction of attention.");
});

it("skips with a reason where the tool is absent", () => {
  for (const [args, reason] of [
    [[], /needs the folder of the gpu-stats tool/],
    [["/nowhere"], /there is no folder \/nowhere/],
  ] as const) {
    const run = spawnSync("sh", ["scripts/gpu_table.sh", ...args], { encoding: "utf8" });
    expect(run.status).toBe(0);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(reason);
  }
});
