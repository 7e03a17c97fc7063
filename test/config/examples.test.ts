/** The recipes in examples/ and the demo's settings resolve as they stand; the README lists every key. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { isKeyName, KEY_NAMES, keyOf } from "../../src/config/schema.js";
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

describe("README.md", () => {
  it("lists every key of finetune with its default", () => {
    const readme = readFileSync(`${root}README.md`, "utf8");
    const rows = [...readme.matchAll(/^\| `(\w+)` \| ([^|]*) \|/gm)].map((row) => [row[1] ?? "", row[2]]);
    const listed = Object.fromEntries(rows.filter(([name]) => isKeyName(name ?? "")));
    const expected = KEY_NAMES.map((name) => {
      const { fallback, isRequired, shown } = keyOf(name);
      if (isRequired) return [name, "required"];
      const hasValue = fallback !== undefined && typeof fallback !== "object";
      return [name, shown ?? (hasValue ? `\`${fallback as string | number | boolean}\`` : "none")];
    });
    expect(listed).toEqual(Object.fromEntries(expected));
  });
});
