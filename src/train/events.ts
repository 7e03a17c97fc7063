/** What a run tells its listeners. The trainer never prints; progress lines, metrics and reports are made from these. */
import type { PreparedRun } from "./prepare.js";

export type TrainingEvent =
  | { readonly type: "prepared"; readonly run: PreparedRun }
  | GpuEvent
  | { readonly type: "message"; readonly text: string }
  | { readonly type: "loading"; readonly bytes: number }
  | { readonly type: "started"; readonly seconds: number }
  | StepEvent
  | EvaluationEvent
  | RollbackEvent
  | { readonly type: "saved"; readonly folder: string; readonly step: number }
  | { readonly type: "finished"; readonly step: number; readonly seconds: number };

/** The GPU is open. */
export interface GpuEvent {
  readonly type: "gpu";
  readonly name: string;
  readonly isSoftware: boolean;
  /** Products with frozen weights and attention may run on f16 matrices. */
  readonly halfProducts: boolean;
}

export interface StepEvent {
  readonly type: "step";
  /** Counted from 1. */
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Rows seen / rows, as a real number. */
  readonly epoch: number;
  /** Tokens trained on since the run began. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Peak of the GPU ledger. */
  readonly gpuBytes: number;
  /** Whether this step is one of the logged ones. */
  readonly logged: boolean;
  readonly secondsLeft: number;
}

/** The mean loss over the held-out rows after a step. */
export interface EvaluationEvent {
  readonly type: "evaluation";
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
}

/** The run has gone back to a checkpoint because of a loss spike; the steps after it will be told again. */
export interface RollbackEvent {
  readonly type: "rollback";
  /** How many there were, with this one. */
  readonly count: number;
  /** The step with the spike; it is told here alone. */
  readonly step: number;
  readonly loss: number;
  /** The largest loss that would have been none. */
  readonly limit: number;
  /** The step that the run is at now. */
  readonly to: number;
  /** How many steps of data are left out from here on. */
  readonly leftOut: number;
}

export type Listener = (event: TrainingEvent) => void | Promise<void>;
