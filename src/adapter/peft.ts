/** Between the adapter's tensors and PEFT's files: names, shapes and settings, checked in both directions. */
import { QdoraError } from "../formats/error.js";
import { adapterKey, type PeftAdapter, type PeftConfig, type PeftTensor } from "../formats/peft.js";
import type { AdapterLayout, ModuleAdapter } from "./layout.js";
import type { FactorValues } from "./initial.js";
import { targetModules, type AdapterSettings } from "./targets.js";

type Part = "lora_A" | "lora_B" | "magnitude";

/** What an adapter's own config says. */
export const settingsFromPeft = (c: PeftConfig): AdapterSettings => ({
  useDora: c.use_dora,
  useRslora: c.use_rslora,
  rank: c.r,
  alpha: c.lora_alpha,
  targetModules: c.target_modules,
  excludeModules: c.exclude_modules ?? undefined,
  rankPattern: c.rank_pattern,
  alphaPattern: c.alpha_pattern,
});

/** The same factors with another scaling are another adapter. */
function checkScaling(layout: AdapterLayout, config: PeftConfig, folder: string): void {
  const modules = [...layout.modules.values()];
  const own = targetModules(modules, {
    ...settingsFromPeft(config),
    targetModules: "all-linear",
    excludeModules: undefined,
  });
  const other = own.find(({ module, scaling }) => scaling !== module.scaling);
  if (!other) return;
  throw new QdoraError(
    folder,
    `the adapter scales ${other.module.path} by ${other.scaling}, this run by ${other.module.scaling}`,
    "set rank, alpha and use_rslora as in its adapter_config.json",
  );
}

/** Takes a PEFT adapter's tensors for a layout. @throws QdoraError when rank, method, scaling, targets or shapes differ from what this run trains */
export function adapterFromPeft(
  layout: AdapterLayout,
  adapter: PeftAdapter,
  folder: string,
): ReadonlyMap<string, FactorValues> {
  const unused = new Set(adapter.tensors.keys());
  const take = (m: ModuleAdapter, part: Part, shape: readonly number[]): Float32Array => {
    const key = adapterKey(m.path, part);
    const found = adapter.tensors.get(key);
    if (!found)
      throw new QdoraError(
        folder,
        `the adapter has no ${key}`,
        "use the model, target_modules and use_dora that the adapter was made with",
      );
    if (found.shape.length !== shape.length || found.shape.some((n, i) => n !== shape[i])) {
      throw new QdoraError(
        folder,
        `${key} has shape [${found.shape.join(", ")}], this run needs [${shape.join(", ")}]`,
        "use the rank and the model that the adapter was made with",
      );
    }
    unused.delete(key);
    return found.data;
  };
  const values = new Map<string, FactorValues>();
  for (const m of layout.modules.values()) {
    const factors = { a: take(m, "lora_A", [m.rank, m.in]), b: take(m, "lora_B", [m.out, m.rank]) };
    values.set(
      m.path,
      m.parameters.magnitude ? { ...factors, magnitude: take(m, "magnitude", [m.out]) } : factors,
    );
  }
  const [extra] = unused;
  if (extra !== undefined) {
    throw new QdoraError(
      folder,
      `the adapter also holds ${extra}, which this run does not train`,
      "set target_modules and use_dora as in its adapter_config.json",
    );
  }
  checkScaling(layout, adapter.config, folder);
  return values;
}

/** The tensors of a PEFT file. */
export function adapterToPeft(
  layout: AdapterLayout,
  values: ReadonlyMap<string, FactorValues>,
): ReadonlyMap<string, PeftTensor> {
  const tensors = new Map<string, PeftTensor>();
  for (const m of layout.modules.values()) {
    const v = values.get(m.path);
    if (!v) throw new Error(`no values for ${m.path}`);
    tensors.set(adapterKey(m.path, "lora_A"), { shape: [m.rank, m.in], data: v.a });
    tensors.set(adapterKey(m.path, "lora_B"), { shape: [m.out, m.rank], data: v.b });
    if (v.magnitude) tensors.set(adapterKey(m.path, "magnitude"), { shape: [m.out], data: v.magnitude });
  }
  return tensors;
}
