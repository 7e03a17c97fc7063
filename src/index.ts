/** The library's front door: everything the command line does, from TypeScript. */
export {
  finetune,
  type FinetuneEvent,
  type FinetuneListening,
  type FinetuneOptions,
  type FinetuneResult,
} from "./jobs/finetune.js";
export { plan, type Plan, type PlanListening, type PlanOptions } from "./jobs/plan.js";
export { generate, type GenerateListening, type GenerateOptions } from "./jobs/generate.js";
export { QdoraError } from "./formats/error.js";
export { openGpu, type Gpu, type OpenOptions } from "./gpu/device.js";
export { DeviceLostError, GpuError, OutOfGpuMemoryError } from "./gpu/errors.js";
export type { AdapterTraits } from "./gpu/traits.js";
export { train, type TrainOptions, type TrainingResult } from "./train/trainer.js";
export { CheckpointStore } from "./train/checkpoint_store.js";
export { StoppedError } from "./train/interrupt.js";
export { withRestarts } from "./train/restarts.js";
export { prepareRun, type PreparedRun } from "./train/prepare.js";
export type { MeasuredProfile } from "./train/profile.js";
export { chromeTrace, profileTable } from "./report/profile.js";
export { writeOutput } from "./train/output.js";
export type { TrainingSettings } from "./train/settings.js";
export type { Listener, StepEvent, TrainingEvent } from "./train/events.js";
export type { Generated } from "./generate/generate.js";
export { Generator, type GeneratorOptions } from "./generate/generator.js";
export { evaluate, type EvaluateEvent, type EvaluateOptions } from "./eval/evaluate.js";
export type { PartResult, TaskResult, TextResult } from "./eval/results.js";
export { quantizeModel, type QuantizedModel, type QuantizeOptions } from "./model/quantize.js";
export { resolveFinetuneConfig, type FinetuneConfig } from "./config/resolve.js";
export { pull, pullDataset, type Pulled } from "./hub/pull.js";
export type { PullEvent, PullOptions } from "./hub/pull_options.js";
export {
  modelFolder,
  modelFolderOrHeaders,
  type ModelFolder,
  type ModelHeaders,
} from "./hub/model_folder.js";
export {
  mergeAdapter,
  type MergeOptions,
  type MergeProgress,
  type MergeResult,
} from "./export/merged_folder.js";
export { pushFolder, type PushFolderOptions } from "./export/push_folder.js";
export { type Pushed, type PushEvent } from "./hub/push.js";
export { exportGguf, type ExportOptions, type ExportResult } from "./export/gguf_file.js";
export { chooseBase, type ChosenBase } from "./config/trained_base.js";
export { compareLogits, comparisonPrompts, type LogitComparison } from "./generate/compare.js";
export { planModel, type ModelPlan } from "./train/plan.js";
export { readModel, type ModelShapes, type RemoteShapes } from "./train/prepare.js";
export type { RemoteModel } from "./formats/remote_model.js";
