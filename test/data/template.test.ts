import { describe, expect, it } from "vitest";
import { ChatRenderer, renderChat } from "../../src/data/template.js";
import { CHATML } from "./tiny_tokenizer.js";

const MESSAGES = [
  { role: "user", content: "  Hi é <b>&\n" },
  { role: "assistant", content: "\n\n    code()\n" },
];
const render = (chatTemplate: string, messages = MESSAGES, specialTokens = {}): Promise<string> =>
  renderChat({ chatTemplate, specialTokens }, messages);

describe("renderChat", () => {
  it("renders with and without the generation prompt", async () => {
    const messages = [{ role: "user", content: "Hi" }];
    const source = { chatTemplate: CHATML, specialTokens: {} };
    expect(await renderChat(source, messages)).toBe("<|im_start|>user\nHi<|im_end|>\n");
    expect(await renderChat(source, messages, { addGenerationPrompt: true })).toBe(
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  // Expected texts are those of Jinja2 3.1.6 with transformers' settings.
  it.each([
    [
      "trims blocks and their indentation",
      "{% for m in messages %}\n    {% if loop.first %}\n  a\n    {% endif %}\n{{ m.role }}\n{% endfor %}\nend\n",
      "  a\nuser\nassistant\nend",
    ],
    [
      "strips only the characters asked for",
      "{% for m in messages %}[{{ m.content.strip('\\n') }}]{% endfor %}",
      "[  Hi é <b>&][    code()]",
    ],
    [
      "lstrip and rstrip",
      "[{{ messages[1].content.lstrip('\\n') }}][{{ messages[0].content.rstrip() }}]",
      "[    code()\n][  Hi é <b>&]",
    ],
    ["capitalize", "{{ 'hELLO wORLD'.capitalize() }}", "Hello world"],
    [
      "tojson keeps letters and tags as they are",
      "{{ messages[0] | tojson }}",
      '{"role": "user", "content": "  Hi é <b>&\\n"}',
    ],
    [
      "knows what transformers passes",
      "{{ bos_token }}{{ tools is none }}{{ documents is none }}{{ eos_token is defined }}{{ strftime_now('%Y') | length }}",
      "<s>truetruefalse4",
    ],
    [
      "namespaces and ranges",
      "{% set ns = namespace(n=0) %}{% for i in range(1, 8, 3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
      "12",
    ],
  ])("%s", async (_, template, expected) => {
    // Jinja2 writes True and False where this prints a bare boolean; templates test them instead.
    expect(await render(template, MESSAGES, { bos_token: "<s>" })).toBe(expected);
  });

  it("says what a template complains about", async () => {
    const refused = render("{{ raise_exception('Roles must\\nalternate') }}");
    await expect(refused).rejects.toThrow("chat template: Roles must alternate");
    await expect(render("{% for %}")).rejects.toThrow(/^chat template: /);
    await expect(renderChat({ specialTokens: {} }, MESSAGES)).rejects.toThrow(/tokenizer has none/);
  });
});

describe("ChatRenderer", () => {
  const input = { messages: MESSAGES, addGenerationPrompt: false };
  const endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";

  it("renders many rows in order and reports each failure apart", async () => {
    const template =
      "{% if messages[0].content == '3' %}{{ raise_exception('three') }}{% endif %}{{ messages[0].content }}";
    const renderer = new ChatRenderer({ chatTemplate: template, specialTokens: {} });
    const asked = (n: number) => ({
      messages: [{ role: "user", content: String(n) }],
      addGenerationPrompt: false,
    });
    const [first, second] = await Promise.all([
      renderer.render([1, 2, 3].map(asked)),
      renderer.render([4, 5].map(asked)),
    ]);
    renderer.close();
    expect(first).toEqual([{ text: "1" }, { text: "2" }, { error: "three" }]);
    expect(second).toEqual([{ text: "4" }, { text: "5" }]);
  });

  it("stops a template that loops for ever, and goes on", async () => {
    const renderer = new ChatRenderer(
      { chatTemplate: endless, specialTokens: {} },
      { timeoutMs: 200, heapMegabytes: 128 },
    );
    expect(await renderer.render([input, input])).toEqual([
      { error: "it ran for longer than 200 ms" },
      { error: "it ran for longer than 200 ms" },
    ]);
    expect(await renderer.render([input])).toEqual([{ error: "it ran for longer than 200 ms" }]);
    renderer.close();
  });

  it("survives a template that eats memory", async () => {
    const template =
      "{% set ns = namespace(list=[]) %}{% for a in range(1000000) %}{% set ns.list = ns.list + [range(100000)] %}{% endfor %}";
    const renderer = new ChatRenderer(
      { chatTemplate: template, specialTokens: {} },
      { timeoutMs: 60_000, heapMegabytes: 64 },
    );
    await expect(renderer.render([input])).rejects.toThrow("needed more than 64 MB of memory");
    renderer.close();
  });

  it("gives the template none of Node's globals", async () => {
    expect(await render("{{ process is defined }}{{ globalThis is defined }}{{ require is defined }}")).toBe(
      "falsefalsefalse",
    );
  });

  it("rejects what is pending when it is closed", async () => {
    const renderer = new ChatRenderer({ chatTemplate: endless, specialTokens: {} });
    const pending = renderer.render([input]);
    renderer.close();
    await expect(pending).rejects.toThrow(/closed/);
  });
});
