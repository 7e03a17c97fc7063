/**
 * What runs in the child process that renders chat templates. The function is sent there as text, so it may use nothing but
 * its arguments and Node's globals. Each request has a time limit of its own; the heap is limited by a flag of the process.
 */
import type * as Vm from "node:vm";

/** The part of `@huggingface/jinja` that is used (its type files name modules in a way that NodeNext does not follow). */
interface Jinja {
  tokenize(
    template: string,
    options: { readonly lstrip_blocks: boolean; readonly trim_blocks: boolean },
  ): unknown;
  parse(tokens: unknown): unknown;
  readonly Environment: new () => { set(name: string, value: unknown): unknown };
  readonly Interpreter: new (environment: unknown) => { run(program: unknown): { readonly value: unknown } };
}

export interface RenderRequest {
  readonly id: number;
  readonly template: string;
  /** Variables of each rendering. */
  readonly inputs: readonly Readonly<Record<string, unknown>>[];
  readonly timeoutMs: number;
}

export type RenderResult = { readonly text: string } | { readonly error: string };

export interface RenderReply {
  readonly id: number;
  readonly results: readonly RenderResult[];
}

/** Serves requests until the parent is gone. Environment as transformers' apply_chat_template makes it. */
export function serveTemplates(jinja: Jinja, vm: typeof Vm): void {
  const MAX_OUTPUT = 16 * 1024 * 1024;
  const MAX_ERROR = 300;
  const MONTHS =
    "January February March April May June July August September October November December".split(" ");
  const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

  const two = (n: number): string => String(n).padStart(2, "0");
  const strftime = (format: string): string => {
    const now = new Date();
    const hour = now.getHours() % 12 || 12;
    const parts: Record<string, string> = {
      Y: String(now.getFullYear()),
      y: two(now.getFullYear() % 100),
      m: two(now.getMonth() + 1),
      d: two(now.getDate()),
      B: MONTHS[now.getMonth()] ?? "",
      b: (MONTHS[now.getMonth()] ?? "").slice(0, 3),
      A: DAYS[now.getDay()] ?? "",
      a: (DAYS[now.getDay()] ?? "").slice(0, 3),
      H: two(now.getHours()),
      I: two(hour),
      M: two(now.getMinutes()),
      S: two(now.getSeconds()),
      p: now.getHours() < 12 ? "AM" : "PM",
      "%": "%",
    };
    return format.replaceAll(/%(-?)([A-Za-z%])/g, (all, dash: string, letter: string) => {
      const part = Object.hasOwn(parts, letter) ? parts[letter] : undefined;
      if (part === undefined) return all;
      return dash === "" ? part : part.replace(/^0(?=\d)/, "");
    });
  };
  const range = (start: number, stop?: number, step = 1): number[] => {
    if (step === 0) throw new Error("range() step must not be zero");
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    return Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step);
  };
  const constants = { true: true, false: false, none: null, True: true, False: false, None: null };

  // The library's strip, lstrip and rstrip ignore their argument, and its capitalize keeps the other letters: mended here.
  const pythonSpace = Array.from(
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
  );
  const strip = (text: string, characters: unknown, left: boolean, right: boolean): string => {
    const dropped = new Set(typeof characters === "string" ? Array.from(characters) : pythonSpace);
    const points = Array.from(text);
    let [from, to] = [0, points.length];
    if (left) while (from < to && dropped.has(points[from] ?? "")) from += 1;
    if (right) while (to > from && dropped.has(points[to - 1] ?? "")) to -= 1;
    return points.slice(from, to).join("");
  };
  const methods: Record<string, (text: string, argument: unknown) => string> = {
    strip: (text, characters) => strip(text, characters, true, true),
    lstrip: (text, characters) => strip(text, characters, true, false),
    rstrip: (text, characters) => strip(text, characters, false, true),
    capitalize: (text) => text.slice(0, 1).toUpperCase() + text.slice(1).toLowerCase(),
  };
  type Value = { readonly value: unknown; readonly builtins: Map<string, Value> };
  const sample = new jinja.Environment().set("sample", "") as Value;
  const StringValue = sample.constructor as new (text: string) => Value;
  const FunctionValue = sample.builtins.get("strip")?.constructor as new (
    call: (values: readonly Value[]) => Value,
  ) => Value;
  const stored = Object.getOwnPropertyDescriptor(StringValue.prototype, "builtins");
  const mended = new WeakSet<Value>();
  Object.defineProperty(StringValue.prototype, "builtins", {
    get(this: Value): Map<string, Value> {
      const map = stored?.get?.call(this) as Map<string, Value>;
      if (mended.has(this)) return map;
      mended.add(this);
      for (const [name, method] of Object.entries(methods)) {
        map.set(
          name,
          new FunctionValue((values) => new StringValue(method(String(this.value), values[0]?.value))),
        );
      }
      return map;
    },
  });

  let parsed: { readonly template: string; readonly program: unknown } | undefined;
  const render = (template: string, input: Readonly<Record<string, unknown>>): string => {
    if (parsed?.template !== template) {
      const tokens = jinja.tokenize(template, { lstrip_blocks: true, trim_blocks: true });
      parsed = { template, program: jinja.parse(tokens) };
    }
    const environment = new jinja.Environment();
    const functions = {
      range,
      strftime_now: strftime,
      raise_exception: (text: unknown): never => {
        throw new Error(String(text));
      },
    };
    for (const [key, value] of Object.entries({ ...constants, ...functions, ...input }))
      environment.set(key, value);
    const text = String(new jinja.Interpreter(environment).run(parsed.program).value);
    if (text.length > MAX_OUTPUT)
      throw new Error(`the output has ${text.length} characters (limit ${MAX_OUTPUT})`);
    return text;
  };

  const script = new vm.Script("renderJob()");
  const jobs = globalThis as { renderJob?: () => void };
  const timed = (job: () => void, timeout: number): void => {
    jobs.renderJob = job;
    script.runInThisContext({ timeout });
  };

  process.on("message", (request: RenderRequest) => {
    const results: RenderResult[] = [];
    const started = Date.now();
    for (const input of request.inputs) {
      const left = request.timeoutMs - (Date.now() - started);
      try {
        if (left <= 0) throw Object.assign(new Error(), { code: "ERR_SCRIPT_EXECUTION_TIMEOUT" });
        timed(() => results.push({ text: render(request.template, input) }), left);
      } catch (error) {
        const { code, message } = error as { code?: unknown; message?: unknown };
        const isTimeout = code === "ERR_SCRIPT_EXECUTION_TIMEOUT";
        const reason = isTimeout
          ? `it ran for longer than ${request.timeoutMs} ms`
          : String(message).slice(0, MAX_ERROR);
        results.push({ error: reason });
      }
    }
    process.send?.({ id: request.id, results } satisfies RenderReply);
  });
  process.on("disconnect", () => process.exit());
}
