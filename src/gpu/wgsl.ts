/**
 * A tiny preprocessor for what WGSL cannot say. Line directives: `#if E`, `#elif E`, `#else`, `#endif`,
 * `#for i in A..B` / `#endfor` (unrolls, B excluded), `#let NAME = E`, `#include "file"`; and `#{E}` inside a line.
 * E is a JavaScript expression over the defines, loop variables and lets. Files come from the package's own wgsl/ folder only.
 */
import { readFileSync } from "node:fs";

export type Values = Readonly<Record<string, number | boolean>>;

const FOLDER = new URL("../../wgsl/", import.meta.url);
const sources = new Map<string, readonly string[]>();

function sourceLines(file: string): readonly string[] {
  let lines = sources.get(file);
  if (!lines) {
    lines = readFileSync(new URL(file, FOLDER), "utf8").split("\n");
    sources.set(file, lines);
  }
  return lines;
}

const evaluators = new Map<string, (scope: Values) => unknown>();

function evaluate(expression: string, scope: Values, where: string): number | boolean {
  let run = evaluators.get(expression);
  if (!run) {
    // Names that are not defined count as 0, so that an option that is off needs no define.
    const names = [...new Set(expression.match(/[A-Za-z_]\w*/g) ?? [])].filter(
      (n) => !["true", "false", "Math", "min", "max", "floor", "ceil", "log2"].includes(n),
    );
    // The expressions are our own files', never a user's.
    // oxlint-disable-next-line typescript/no-implied-eval, no-new-func
    const compiled = new Function(...names, `return (${expression});`) as (...values: unknown[]) => unknown;
    run = (values) => compiled(...names.map((n) => values[n] ?? 0));
    evaluators.set(expression, run);
  }
  const value = run(scope);
  if (typeof value !== "number" && typeof value !== "boolean")
    throw new Error(`${where}: ${expression} gives no number`);
  return value;
}

interface Block {
  readonly lines: readonly string[];
  next: number;
}

/** Expands one file with the given defines. @throws Error naming file and line when a directive is wrong. */
export function expandWgsl(file: string, defines: Values): string {
  const output: string[] = [];
  expandLines({ lines: sourceLines(file), next: 0 }, file, { ...defines }, output, true);
  return output.join("\n");
}

/** Handles lines up to a closing directive of the enclosing block, which it consumes and returns. */
function expandLines(
  block: Block,
  file: string,
  scope: Record<string, number | boolean>,
  output: string[],
  live: boolean,
): string {
  while (block.next < block.lines.length) {
    const line = block.lines[block.next++] ?? "";
    const where = `${file}:${block.next}`;
    const directive = /^\s*#(if|elif|else|endif|for|endfor|let|include)\b\s*(.*)$/.exec(line);
    if (!directive) {
      if (live)
        output.push(line.replaceAll(/#\{([^}]*)\}/g, (_, e: string) => String(evaluate(e, scope, where))));
      continue;
    }
    const [, word = "", rest = ""] = directive;
    switch (word) {
      case "if":
        expandIf(block, file, scope, output, live, rest, where);
        break;
      case "for":
        expandFor(block, file, scope, output, live, rest, where);
        break;
      case "let": {
        const match = /^(\w+)\s*=\s*(.+)$/.exec(rest);
        if (!match) throw new Error(`${where}: #let NAME = expression`);
        if (live) scope[match[1] ?? ""] = evaluate(match[2] ?? "", scope, where);
        break;
      }
      case "include": {
        const included = /^"([\w.-]+)"/.exec(rest)?.[1];
        if (included === undefined) throw new Error(`${where}: #include "file.wgsl"`);
        if (live) expandLines({ lines: sourceLines(included), next: 0 }, included, scope, output, true);
        break;
      }
      default:
        return `${word} ${rest}`;
    }
  }
  return "";
}

function expandIf(
  block: Block,
  file: string,
  scope: Record<string, number | boolean>,
  output: string[],
  live: boolean,
  test: string,
  where: string,
): void {
  let taken = live && Boolean(evaluate(test, scope, where));
  let closing = expandLines(block, file, scope, output, taken);
  while (!closing.startsWith("endif")) {
    if (closing === "") throw new Error(`${where}: #if without #endif`);
    const [, word = "", rest = ""] = /^(\w+)\s*(.*)$/.exec(closing) ?? [];
    if (word === "endfor") throw new Error(`${where}: #endfor inside #if`);
    const open = live && !taken && (word === "else" || Boolean(evaluate(rest, scope, where)));
    closing = expandLines(block, file, scope, output, open);
    taken ||= open;
  }
}

function expandFor(
  block: Block,
  file: string,
  scope: Record<string, number | boolean>,
  output: string[],
  live: boolean,
  head: string,
  where: string,
): void {
  const match = /^(\w+)\s+in\s+(.+)\.\.(.+)$/.exec(head);
  if (!match) throw new Error(`${where}: #for NAME in A..B`);
  const [, name = "", from = "", to = ""] = match;
  const start = block.next;
  const begin = live ? Number(evaluate(from, scope, where)) : 0;
  const end = live ? Number(evaluate(to, scope, where)) : 0;
  // A loop that runs no time is still read once, silently, to find its end.
  for (let i = begin; i < Math.max(end, begin + 1); i++) {
    block.next = start;
    const closing = expandLines(block, file, { ...scope, [name]: i }, output, live && i < end);
    if (!closing.startsWith("endfor")) throw new Error(`${where}: #for without #endfor`);
  }
}

export interface WgslBinding {
  readonly name: string;
  readonly binding: number;
  readonly space: "uniform" | "read" | "read_write";
}

export interface WgslField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

export interface WgslInterface {
  readonly bindings: readonly WgslBinding[];
  /** Fields of `struct Sizes`, 4 bytes each, in order. */
  readonly sizes: readonly WgslField[];
}

/** Reads the bindings of group 0 and the fields of `struct Sizes` out of expanded WGSL: the shader is the only place that says them. */
export function wgslInterface(code: string, file: string): WgslInterface {
  const bindings: WgslBinding[] = [];
  for (const match of code.matchAll(
    /@group\(0\)\s*@binding\((\d+)\)\s*var<(uniform|storage)(?:,\s*(read_write|read))?>\s*(\w+)/g,
  )) {
    const [, binding = "", space = "", access = "read", name = ""] = match;
    bindings.push({
      name,
      binding: Number(binding),
      space: space === "uniform" ? "uniform" : (access as "read" | "read_write"),
    });
  }
  const body = /struct Sizes\s*\{([^}]*)\}/.exec(code)?.[1] ?? "";
  const sizes: WgslField[] = [];
  for (const line of body.split("\n")) {
    const field = /^\s*(\w+)\s*:\s*(u32|i32|f32)\s*,/.exec(line);
    if (field) sizes.push({ name: field[1] ?? "", type: field[2] as WgslField["type"] });
    else if (line.replace(/\/\/.*/, "").trim() !== "")
      throw new Error(`${file}: struct Sizes: one "name: u32|i32|f32," a line`);
  }
  return { bindings, sizes };
}
