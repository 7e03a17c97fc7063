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
 * Picks the modules that get an adapter, as PEFT does: names that fit nothing are left out.
 * @throws QdoraError where no module is left
 */
export function targetModules<M extends ModuleShape>(
  modules: readonly M[],
  settings: AdapterSettings,
): readonly TargetedModule<M>[] {
  const { targetModules: wanted, excludeModules: excluded } = settings;
  const all = isAllLinear(wanted);
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
    return { module, rank, alpha, scaling: alpha / (settings.useRslora ? Math.sqrt(rank) : rank) };
  });
}

/**
 * As `targetModules`, for what a person asked for: a name that fits nothing is a mistake, and so is a rank that a module cannot have.
 * @throws QdoraError naming the key
 */
export function checkedTargetModules<M extends ModuleShape>(
  modules: readonly M[],
  settings: AdapterSettings,
): readonly TargetedModule<M>[] {
  refuseUnused(modules, settings);
  const targets = targetModules(modules, settings);
  for (const { module, rank } of targets) {
    const limit = Math.min(module.in, module.out);
    if (Number.isInteger(rank) && rank >= 1 && rank <= limit) continue;
    throw new QdoraError(
      "rank",
      `${module.path} cannot have rank ${rank} (limit ${limit}, its smaller side)`,
      "lower `rank`, or give this module its own in `rank_pattern`",
      { exitCode: 2 },
    );
  }
  return targets;
}

/** Linear modules outside the layers: never trained, so excluding them is right and changes nothing. */
const UNTRAINED: ReadonlySet<string> = new Set(["lm_head", "embed_tokens"]);

function refuseUnused(modules: readonly ModuleShape[], settings: AdapterSettings): void {
  const names = (given: readonly string[] | string | undefined): readonly string[] =>
    given === undefined || typeof given === "string" || isAllLinear(given) ? [] : given;
  const byName = (key: string) => (name: string, path: string) => matches([name], path, key);
  const byPattern = (key: string) => (name: string, path: string) =>
    fromPattern({ [name]: 1 }, path, key, 0) === 1;
  const used: readonly (readonly [string, readonly string[], (name: string, path: string) => boolean])[] = [
    ["target_modules", names(settings.targetModules), byName("target_modules")],
    [
      "exclude_modules",
      names(settings.excludeModules).filter((name) => !UNTRAINED.has(name)),
      byName("exclude_modules"),
    ],
    ["rank_pattern", Object.keys(settings.rankPattern), byPattern("rank_pattern")],
    ["alpha_pattern", Object.keys(settings.alphaPattern), byPattern("alpha_pattern")],
  ];
  for (const [key, given, fits] of used) {
    const unused = given.find((name) => !modules.some((m) => fits(name, m.path)));
    if (unused === undefined) continue;
    throw new QdoraError(
      key,
      `no module of this model is called "${unused}"`,
      `choose from ${roleNames(modules).join(", ")}`,
      { exitCode: 2 },
    );
  }
}

const roleNames = (modules: readonly ModuleShape[]): string[] => [
  ...new Set(modules.map((m) => m.path.split(".").at(-1) ?? m.path)),
];
