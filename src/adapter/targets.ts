/** Which modules get an adapter, with which rank and alpha: PEFT's matching rules. */
import { QdoraError } from "../formats/error.js";

export interface AdapterSettings {
  readonly useDora: boolean;
  readonly useRslora: boolean;
  readonly rank: number;
  readonly alpha: number;
  /** Names, a regular expression over whole paths, or "all-linear". */
  readonly targetModules: readonly string[] | string;
  readonly excludeModules: readonly string[] | string | undefined;
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
}

export interface ModuleShape {
  readonly path: string;
  readonly in: number;
  readonly out: number;
}

export interface TargetedModule<M extends ModuleShape> {
  readonly module: M;
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank, or alpha / sqrt(rank) with rank stabilisation. */
  readonly scaling: number;
}

/** Whether all linear modules of the layers are asked for. */
export const isAllLinear = (wanted: readonly string[] | string): boolean =>
  wanted === "all-linear" || (Array.isArray(wanted) && wanted.length === 1 && wanted[0] === "all-linear");

/** @param frame puts what matching needs around the expression */
function pattern(source: string, frame: (source: string) => string, key: string): RegExp {
  try {
    return new RegExp(frame(source), "u");
  } catch {
    throw new QdoraError(
      key,
      `"${source}" is not a regular expression`,
      "name modules, for instance q_proj,v_proj",
      { exitCode: 2 },
    );
  }
}

/** A list names modules by the end of their path; a single string is a regular expression over the whole path. */
function matches(wanted: readonly string[] | string, path: string, key: string): boolean {
  if (typeof wanted === "string") return pattern(wanted, (s) => `^(?:${s})$`, key).test(path);
  return wanted.some((name) => path === name || path.endsWith(`.${name}`));
}

/** PEFT: the first key for which `(.*\.)?(KEY)$` matches the path from its start. */
function fromPattern(
  table: Readonly<Record<string, number>>,
  path: string,
  key: string,
  otherwise: number,
): number {
  for (const [name, value] of Object.entries(table))
    if (pattern(name, (s) => `^(?:.*\\.)?(?:${s})$`, key).test(path)) return value;
  return otherwise;
}

/**
 * Picks the modules that get an adapter.
 * @throws QdoraError for a target that fits nothing, or a rank larger than a target's smaller side
 */
export function targetModules<M extends ModuleShape>(
  modules: readonly M[],
  settings: AdapterSettings,
): readonly TargetedModule<M>[] {
  const { targetModules: wanted, excludeModules: excluded } = settings;
  const all = isAllLinear(wanted);
  if (!all && typeof wanted !== "string") {
    for (const name of wanted) {
      if (modules.some((m) => matches([name], m.path, "target_modules"))) continue;
      throw new QdoraError(
        "target_modules",
        `no module of this model is called "${name}"`,
        `choose from ${roleNames(modules).join(", ")}`,
        { exitCode: 2 },
      );
    }
  }
  const chosen = modules.filter(
    (m) =>
      (all || matches(wanted, m.path, "target_modules")) &&
      !(excluded !== undefined && excluded.length > 0 && matches(excluded, m.path, "exclude_modules")),
  );
  if (chosen.length === 0) {
    throw new QdoraError(
      "target_modules",
      `${JSON.stringify(wanted)} leaves no module to train`,
      `choose from ${roleNames(modules).join(", ")}`,
      { exitCode: 2 },
    );
  }
  return chosen.map((module) => {
    const rank = fromPattern(settings.rankPattern, module.path, "rank_pattern", settings.rank);
    const alpha = fromPattern(settings.alphaPattern, module.path, "alpha_pattern", settings.alpha);
    const limit = Math.min(module.in, module.out);
    if (!(Number.isInteger(rank) && rank >= 1 && rank <= limit)) {
      throw new QdoraError(
        "rank",
        `${module.path} cannot have rank ${rank} (limit ${limit}, its smaller side)`,
        "lower `rank`, or give this module its own in `rank_pattern`",
        { exitCode: 2 },
      );
    }
    return { module, rank, alpha, scaling: alpha / (settings.useRslora ? Math.sqrt(rank) : rank) };
  });
}

const roleNames = (modules: readonly ModuleShape[]): string[] => [
  ...new Set(modules.map((m) => m.path.split(".").at(-1) ?? m.path)),
];
