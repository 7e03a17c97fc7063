/**
 * Chat templates (Jinja), rendered as transformers' apply_chat_template does. A template comes with the model and may loop
 * for ever or eat memory, so it runs in a child process with limits, one for many rows. A worker thread would be cheaper, but
 * when it outgrows its heap limit V8 may end the whole process.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createRequire } from "node:module";
import { QdoraError } from "../formats/error.js";
import type { ChatMessage } from "./row.js";
import { serveTemplates, type RenderReply, type RenderRequest, type RenderResult } from "./template_child.js";

/** What a model's folder says about chats. */
export interface ChatTemplateSource {
  readonly chatTemplate?: string | undefined;
  /** bos_token, eos_token and the like, as the template sees them. */
  readonly specialTokens: Readonly<Record<string, unknown>>;
}

export interface RenderInput {
  readonly messages: readonly ChatMessage[];
  readonly addGenerationPrompt: boolean;
  readonly tools?: readonly unknown[] | undefined;
}

export interface RenderLimits {
  /** For the renderings of one call together. */
  readonly timeoutMs: number;
  readonly heapMegabytes: number;
}

const DEFAULT_LIMITS: RenderLimits = { timeoutMs: 10_000, heapMegabytes: 256 };
/** The child's own clock comes first; this is added before the parent kills it (it may have to start first). */
const GRACE_MS = 20_000;

interface Pending {
  readonly resolve: (results: readonly RenderResult[]) => void;
  readonly reject: (error: QdoraError) => void;
}

const failure = (reason: string): QdoraError =>
  new QdoraError(
    "chat template",
    reason,
    "check the model's chat template, or use rows with `text` or `prompt` and `completion`",
  );

/** Renders one template for many conversations. Close it when done. */
export class ChatRenderer {
  readonly #source: ChatTemplateSource;
  readonly #limits: RenderLimits;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #nextId = 0;
  readonly #pending = new Map<number, Pending>();

  /** Nothing runs before the first call of `render`. */
  constructor(source: ChatTemplateSource, limits: RenderLimits = DEFAULT_LIMITS) {
    this.#source = source;
    this.#limits = limits;
  }

  /**
   * Renders conversations; each gives a text or the reason why the template refused it.
   * @throws QdoraError if the model has no template, or the renderer died of it
   */
  async render(inputs: readonly RenderInput[]): Promise<readonly RenderResult[]> {
    const template = this.#source.chatTemplate;
    if (template === undefined) {
      throw new QdoraError(
        "chat template",
        "the model's tokenizer has none",
        "use an instruct model, or rows with `text` or `prompt` and `completion`",
      );
    }
    const child = (this.#child ??= this.#start());
    const request: RenderRequest = {
      id: this.#nextId++,
      template,
      timeoutMs: this.#limits.timeoutMs,
      inputs: inputs.map(({ messages, addGenerationPrompt, tools }) => ({
        ...this.#source.specialTokens,
        messages,
        tools: tools ?? null,
        documents: null,
        add_generation_prompt: addGenerationPrompt,
      })),
    };
    return new Promise((resolve, reject) => {
      this.#pending.set(request.id, { resolve, reject });
      if (this.#pending.size === 1) this.#watch();
      child.send(request, (error) => {
        if (error) this.#fail(child, `the renderer could not be reached (${error.message})`);
      });
    });
  }

  /** Ends the child. */
  close(): void {
    if (this.#child) this.#fail(this.#child, "the renderer was closed");
  }

  #start(): ChildProcess {
    const jinja = createRequire(import.meta.url).resolve("@huggingface/jinja");
    const program = `(${serveTemplates.toString()})(require(${JSON.stringify(jinja)}), require("node:vm"))`;
    // Tokens and other secrets of the environment are no business of a template.
    const kept = ["TZ", "SystemRoot"].flatMap((key) =>
      process.env[key] === undefined ? [] : [[key, process.env[key]]],
    );
    const child = spawn(
      process.execPath,
      [`--max-old-space-size=${this.#limits.heapMegabytes}`, "-e", program],
      {
        stdio: ["ignore", "ignore", "ignore", "ipc"],
        env: Object.fromEntries(kept) as NodeJS.ProcessEnv,
      },
    );
    child.on("message", (reply: RenderReply) => {
      this.#pending.get(reply.id)?.resolve(reply.results);
      this.#pending.delete(reply.id);
      this.#watch();
    });
    child.on("error", (error) => this.#fail(child, `the renderer could not start (${error.message})`));
    child.on("exit", () =>
      this.#fail(
        child,
        `rendering was stopped: it needed more than ${this.#limits.heapMegabytes} MB of memory`,
      ),
    );
    return child;
  }

  /** Restarts the clock; while nothing is pending neither clock nor child keeps the program alive. */
  #watch(): void {
    clearTimeout(this.#timer);
    const child = this.#child;
    if (!child) return;
    if (this.#pending.size === 0) {
      child.unref();
      child.channel?.unref();
      return;
    }
    child.ref();
    child.channel?.ref();
    const limit = this.#limits.timeoutMs + GRACE_MS;
    this.#timer = setTimeout(() => this.#fail(child, `rendering took longer than ${limit} ms`), limit);
  }

  #fail(child: ChildProcess, reason: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    clearTimeout(this.#timer);
    child.kill("SIGKILL");
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of waiting) reject(failure(reason));
  }
}

/** Was a rendering stopped by its time limit? */
export const isTimeout = (reason: string): boolean => /^it ran for longer than \d+ ms$/.test(reason);

/** Text of a template's complaint that is safe to print. */
export const templateError = (reason: string): string =>
  reason.replaceAll(/\p{Cc}+/gu, " ").trim() || "it failed";

/**
 * Renders one conversation.
 * @throws QdoraError if there is no template or it refuses the conversation
 */
export async function renderChat(
  source: ChatTemplateSource,
  messages: readonly ChatMessage[],
  options: { readonly addGenerationPrompt?: boolean; readonly tools?: readonly unknown[] | undefined } = {},
): Promise<string> {
  const renderer = new ChatRenderer(source);
  try {
    const [result] = await renderer.render([
      { messages, addGenerationPrompt: options.addGenerationPrompt ?? false, tools: options.tools },
    ]);
    if (result && "text" in result) return result.text;
    throw failure(templateError(result?.error ?? ""));
  } finally {
    renderer.close();
  }
}
