/** The model that `qdora plan` is about. */
import type { FinetuneConfig } from "../config/resolve.js";
import { TOKENIZER_TEXTS } from "../data/tokenizer_files.js";
import { modelFolderOrHeaders } from "../hub/model_folder.js";
import { pullPrinter } from "../report/pull_progress.js";
import { readModel, type RemoteShapes } from "../train/prepare.js";
import { stoppable, type Stoppable } from "./stoppable.js";

export interface PlannedModel {
  readonly config: FinetuneConfig;
  /** Undefined where `config.model` is a folder. */
  readonly remote?: RemoteShapes;
}

/**
 * A folder, or the snapshot in the cache; of a model of the Hub that is not there, its shapes and, where there is data to
 * count, its tokenizer. Weights are not fetched.
 * @throws QdoraError
 */
export function findModel(named: FinetuneConfig): Promise<Stoppable<PlannedModel>> {
  return stoppable(async (signal) => {
    const { model: name, revision, data } = named;
    const found = await modelFolderOrHeaders(name, { revision, signal, listen: pullPrinter(process.stderr) });
    const config = { ...named, model_id: found.id };
    if ("path" in found) return { config: { ...config, model: found.path } };
    const shapes = await readModel(config, found.remote);
    const texts = new Map<string, string>();
    for (const file of data === "" ? [] : TOKENIZER_TEXTS) {
      const text = await found.remote.readText(file);
      if (text !== undefined) texts.set(file, text);
    }
    return { config, remote: { shapes, texts } };
  });
}
