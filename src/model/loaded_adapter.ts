/** A PEFT adapter folder as factors of a model's modules. */
import { adapterLayout, type AdapterLayout } from "../adapter/layout.js";
import type { FactorValues } from "../adapter/initial.js";
import { adapterFromPeft, settingsFromPeft } from "../adapter/peft.js";
import { targetModules } from "../adapter/targets.js";
import { QdoraError } from "../formats/error.js";
import { readPeftAdapter, type PeftAdapter } from "../formats/peft.js";
import type { Architecture } from "./config.js";
import { allModules } from "./modules.js";

export interface LoadedAdapter {
  readonly layout: AdapterLayout;
  /** By the module's path. */
  readonly values: ReadonlyMap<string, FactorValues>;
}

/** The layout that an adapter's own config describes. @throws QdoraError naming the folder when it does not fit the model */
function layoutOfAdapter(adapter: PeftAdapter, arch: Architecture, folder: string): AdapterLayout {
  const settings = settingsFromPeft(adapter.config);
  try {
    return adapterLayout(targetModules(allModules(arch), settings), settings, (m) => m.layer);
  } catch (cause) {
    if (!(cause instanceof QdoraError)) throw cause;
    throw new QdoraError(
      folder,
      `does not fit this model: ${cause.message}`,
      "use the model that the adapter was made with",
      { cause },
    );
  }
}

/** @throws QdoraError for an adapter that is broken, or was made for another model */
export async function loadAdapter(folder: string, arch: Architecture): Promise<LoadedAdapter> {
  const peft = await readPeftAdapter(folder);
  const layout = layoutOfAdapter(peft, arch, folder);
  return { layout, values: adapterFromPeft(layout, peft, folder) };
}
