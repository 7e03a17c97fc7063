/** Text from the tiny model: greedy text is the same each time, streamed or not. */
import { beforeAll, describe, expect, it } from "vitest";
import { qdora, TINY, type Finished } from "./qdora.js";

const PROMPT = "Is there rain over the sea?";
const ASK = ["generate", "--model", TINY, "--chat", "--max-new-tokens", "12"];

interface Answer {
  readonly text: string;
  readonly ids: readonly number[];
  readonly prompt_ids: readonly number[];
}

describe("generate", () => {
  let [json, streamed, sampled]: readonly (Finished | undefined)[] = [];
  let answer: Answer;
  beforeAll(async () => {
    json = await qdora([...ASK, "--prompt", PROMPT, "--json"]);
    streamed = await qdora(ASK, { input: PROMPT });
    sampled = await qdora([
      ...ASK,
      "--prompt",
      PROMPT,
      "--json",
      "--temperature",
      "0.7",
      "--top-k",
      "1",
      "--seed",
      "3",
    ]);
    answer = JSON.parse(json.stdout) as Answer;
  });

  it("answers with text and token ids as one JSON object", () => {
    expect(json).toMatchObject({ status: 0 });
    expect(Object.keys(answer)).toEqual(["text", "ids", "prompt_ids"]);
    expect(answer.text).toMatch(/\w/);
    expect(answer.ids.length).toBeGreaterThan(0);
    expect(answer.ids.length).toBeLessThanOrEqual(12);
    expect(
      [...answer.ids, ...answer.prompt_ids].every((id) => Number.isInteger(id) && id >= 0 && id < 2048),
    ).toBe(true);
    expect(json?.stderr).toContain(
      `${answer.prompt_ids.length} prompt tokens, ${answer.ids.length} new tokens`,
    );
  });

  it("streams the same text, here with the prompt from standard input", () => {
    expect(streamed).toMatchObject({ status: 0, stdout: `${answer.text}\n` });
  });

  it("samples the greedy text where only the likeliest token may be drawn", () => {
    expect(JSON.parse(sampled?.stdout ?? "")).toEqual(answer);
  });

  it.each([
    ["--top-k", "5"],
    ["--top-p", "0.9"],
    ["--seed", "3"],
  ])("refuses %s without a temperature", async (flag, value) => {
    const greedy = await qdora([...ASK, "--prompt", PROMPT, flag, value]);
    expect([greedy.status, greedy.stderr]).toEqual([
      2,
      expect.stringContaining(`error: ${flag}: does nothing at temperature 0`),
    ]);
  });

  it("refuses a kernel variant that there is not", async () => {
    const variant = await qdora([...ASK, "--prompt", PROMPT], { env: { QDORA_VARIANT: "tiles" } });
    expect([variant.status, variant.stderr]).toEqual([
      2,
      expect.stringMatching(
        /error: QDORA_VARIANT: no kernel has a variant "tiles"\nhint: it may be .*small_tile/,
      ),
    ]);
  });
});
