import { describe, expect, it } from "vitest";
import { checkedTargetModules, targetModules, type AdapterSettings } from "../../src/adapter/targets.js";

const module = (path: string) => ({ path, in: 64, out: 32 });
const MODULES = ["q_proj", "k_proj", "v_proj"].flatMap((r) =>
  [0, 1].map((l) => module(`model.layers.${l}.self_attn.${r}`)),
);
const settings = (more: Partial<AdapterSettings>): AdapterSettings => ({
  useDora: true,
  useRslora: false,
  rank: 8,
  alpha: 16,
  targetModules: "all-linear",
  excludeModules: undefined,
  rankPattern: {},
  alphaPattern: {},
  ...more,
});
const paths = (more: Partial<AdapterSettings>): string[] =>
  targetModules(MODULES, settings(more)).map((t) =>
    t.module.path.replace("model.layers.", "").replace("self_attn.", ""),
  );

describe("targetModules", () => {
  it("takes names by the end of the path, a string as a regular expression over all of it", () => {
    expect(paths({ targetModules: ["q_proj"] })).toEqual(["0.q_proj", "1.q_proj"]);
    expect(paths({ targetModules: [".*"].join() })).toHaveLength(6);
    expect(paths({ targetModules: "model\\.layers\\.1\\..*(q|v)_proj" })).toEqual(["1.q_proj", "1.v_proj"]);
    expect(paths({ excludeModules: ["v_proj", "layers.0.self_attn.k_proj"] })).toEqual([
      "0.q_proj",
      "1.q_proj",
      "1.k_proj",
    ]);
  });

  it("gives ranks and alphas by the first pattern that fits, each without the other", () => {
    const [q0, q1] = targetModules(
      MODULES,
      settings({
        targetModules: ["q_proj"],
        rankPattern: { "layers.1.self_attn.q_proj": 4, q_proj: 2 },
        alphaPattern: { "layers.0.self_attn.q_proj": 3 },
      }),
    );
    expect([q0?.rank, q0?.alpha, q0?.scaling]).toEqual([2, 3, 1.5]);
    expect([q1?.rank, q1?.alpha, q1?.scaling]).toEqual([4, 16, 4]);
  });

  it("scales by the root of the rank with rank stabilisation", () => {
    expect(targetModules(MODULES, settings({ useRslora: true, rank: 16, alpha: 8 }))[0]?.scaling).toBe(2);
  });

  it("leaves out names that fit nothing in foreign adapters", () => {
    expect(paths({ targetModules: ["q_proj", "query_key_value"] })).toEqual(["0.q_proj", "1.q_proj"]);
  });

  it("refuses what leaves nothing or is no expression", () => {
    expect(() => paths({ targetModules: ["qproj"] })).toThrow(/leaves no module to train/);
    expect(() => paths({ excludeModules: ["q_proj", "k_proj", "v_proj"] })).toThrow(
      /leaves no module to train/,
    );
    expect(() => paths({ targetModules: "(" })).toThrow(/is not a regular expression/);
  });
});

describe("checkedTargetModules", () => {
  it("refuses names and patterns that fit nothing, and ranks that cannot be", () => {
    const checked = (more: Partial<AdapterSettings>) => () => checkedTargetModules(MODULES, settings(more));
    expect(checked({ excludeModules: ["lm_head", "v_proj"] })()).toHaveLength(4);
    expect(checked({ targetModules: ["q_proj", "qproj"] })).toThrow(
      /no module of this model is called "qproj"/,
    );
    expect(checked({ excludeModules: ["k_porj"] })).toThrow(/exclude_modules: .*"k_porj"/);
    expect(checked({ rankPattern: { q_prj: 4 } })).toThrow(/rank_pattern: .*"q_prj"/);
    expect(checked({ alphaPattern: { q_prj: 4 } })).toThrow(/alpha_pattern: .*"q_prj"/);
    expect(checked({ rank: 33 })).toThrow(/cannot have rank 33 \(limit 32/);
  });
});
