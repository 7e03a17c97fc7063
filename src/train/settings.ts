/** What a training run is told: the finetune keys, already checked (see the config schema for their meaning). */
import type { GradientCheckpointing } from "../model/programs.js";
import type { TuneMode } from "../program/tuner.js";
import type { OptimizerName } from "./optimizer.js";
import type { Scheduler } from "./schedule.js";

export interface TrainingSettings {
  /** Folder of the base model. */
  readonly model: string;
  /** Its name on the Hub, if it was pulled from there. */
  readonly model_id?: string | undefined;
  readonly revision?: string | undefined;
  readonly data: string | readonly string[];
  readonly data_weights?: readonly number[] | undefined;
  readonly columns: Readonly<Record<string, string>>;
  readonly output_dir: string;
  readonly init_adapter?: string | undefined;
  readonly quant: "nf4" | "none";
  readonly double_quant: boolean;
  readonly quant_head: "none" | "int8" | "nf4";
  readonly compute_dtype: "f32" | "f16" | "auto";
  readonly use_dora: boolean;
  readonly use_rslora: boolean;
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly target_modules: readonly string[] | string;
  readonly exclude_modules?: readonly string[] | string | undefined;
  readonly rank_pattern: Readonly<Record<string, number>>;
  readonly alpha_pattern: Readonly<Record<string, number>>;
  readonly max_seq_length: number;
  readonly packing: boolean;
  readonly batch_size: number;
  readonly gradient_accumulation_steps: number;
  readonly epochs: number;
  readonly max_steps?: number | undefined;
  readonly learning_rate: number;
  readonly lr_scheduler: Scheduler;
  readonly warmup_steps?: number | undefined;
  readonly warmup_ratio: number;
  readonly weight_decay: number;
  readonly max_grad_norm: number;
  readonly optimizer: OptimizerName;
  readonly gradient_checkpointing: GradientCheckpointing;
  readonly checkpoint_dtype: "auto" | "f32" | "bf16";
  readonly checkpoint_place: "auto" | "gpu" | "host";
  readonly stream_layers: "auto" | "all" | number;
  readonly layer_cache: "ram" | "disk";
  readonly token_chunk?: number | undefined;
  readonly seed: number;
  readonly shuffle: boolean;
  readonly train_on_prompt: boolean;
  readonly val_size?: number | undefined;
  readonly eval_steps?: number | undefined;
  readonly logging_steps: number;
  readonly loss_spike_rollback?: number | undefined;
  readonly save_steps?: number | undefined;
  readonly save_total_limit?: number | undefined;
  readonly resume?: boolean | undefined;
  readonly memory_limit?: number | "auto" | undefined;
  readonly device?: string | undefined;
  readonly tune: TuneMode;
}
