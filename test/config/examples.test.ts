/** The recipes in examples/ and the demo's settings resolve as they stand. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { readYaml } from "../../src/config/yaml_file.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const recipes = readdirSync(`${root}examples`).filter((name) => name.endsWith(".yaml"));

describe("examples", () => {
  it("has the recipes that README.md names", () => {
    expect(recipes.toSorted()).toEqual([
      "7b_on_8gb.yaml",
      "chat_small_gpu.yaml",
      "lora_attention.yaml",
      "plain_text_packing.yaml",
    ]);
  });

  it.each([...recipes.map((name) => `examples/${name}`), "models/tiny/demo/demo.yaml"])(
    "%s resolves, and every key keeps its value",
    async (name) => {
      const path = root + name;
      const config = await resolveFinetuneConfig({}, path);
      const written = await readYaml(path);
      expect(Object.keys(written).length).toBeGreaterThan(10);
      const { memory_limit: _, ...plain } = written;
      expect(config).toMatchObject(plain);
    },
  );

  it("reads the memory limit of the 7 B recipe in bytes", async () => {
    const config = await resolveFinetuneConfig({}, `${root}examples/7b_on_8gb.yaml`);
    expect(config.memory_limit).toBe(7e9);
  });
});
