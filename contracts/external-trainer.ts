import { z } from 'zod';

/**
 * Trainers that are other programs: what a pipeline says of them, what they are told, and what they say back.
 *
 * Invariants:
 * 1. The task file is all that a program needs to know; its path is in MILLRACE_TASK.
 * 2. A line of the program's output that is a JSON object of `TrainerLineSchema` is a message; every other line is its log.
 * 3. The test rows are never in the task.
 */

/** Environment variable of the program: path of its task file. */
export const TASK_VARIABLE = 'MILLRACE_TASK';

const Shared = {
  /** `features`: the fitted feature matrix, float32; the model takes FLOAT [N, F]. `raw`: the raw columns; the model takes them. */
  input: z.enum(['features', 'raw']).default('features'),
  /** What `auto` features become: for `trees`, missing values and ordinal categories stay; for `numbers`, all is filled, scaled and one-hot. */
  featuresFor: z.enum(['trees', 'numbers']).default('numbers'),
  /** Handed on as they are: hyperparameters. */
  parameters: z.record(z.string(), z.unknown()).default({}),
  /** Variables of the worker that the program may see beside the few that every one gets. Their values are masked in its log. */
  env: z
    .array(
      z
        .string()
        .regex(/^[A-Za-z_]\w*$/, 'must be the name of a variable')
        .refine((name) => !/^(?:MILLRACE_|DATABASE_URL$|TEMPORAL_|PG)/.test(name), 'is for Millrace alone'),
    )
    .max(50)
    .default([]),
};

export const PythonTrainerSchema = z.strictObject({
  ...Shared,
  /** Path of the script in the project. */
  script: z.string().min(1),
  /** Path of a requirements file in the project. Default: the interpreter as it is. */
  requirements: z.string().min(1).optional(),
  args: z.array(z.string()).max(1_000).default([]),
  /** Interpreter: a name on PATH or a path. Default `python3`. */
  python: z.string().min(1).optional(),
});
export type PythonTrainer = z.output<typeof PythonTrainerSchema>;

export const CommandTrainerSchema = z.strictObject({
  ...Shared,
  /** Program and arguments. A program with a slash lies in the project, any other is looked up on PATH. */
  run: z.array(z.string()).min(1).max(1_000),
  /** Files and folders of the project whose content decides what comes out. What `run` names is among them. */
  files: z.array(z.string().min(1)).max(100).default([]),
});
export type CommandTrainer = z.output<typeof CommandTrainerSchema>;

/** The task file. Paths are absolute. */
export interface TrainerTask {
  readonly format: 'millrace-task/1';
  readonly input: 'features' | 'raw';
  /** `sparse`: the Parquet files hold `row`, `column`, `value` of what is not 0, and targets have files of their own. */
  readonly layout: 'dense' | 'sparse';
  readonly task: { readonly kind: 'binary' | 'multiclass' | 'regression'; readonly classes: readonly string[] | null };
  readonly train: string;
  readonly validation: string | null;
  /** Always null: the test set is for the evaluation alone. */
  readonly test: null;
  /** Where the target's column is; for `dense` the files above. */
  readonly targets: { readonly train: string; readonly validation: string | null };
  readonly rows: { readonly train: number; readonly validation: number };
  /** Name of the target's column: class numbers 0 … K-1 in the order of `task.classes`, or values. */
  readonly target: string;
  /** Columns of the Parquet files in order: `f0`, `f1`, … with what they are; or the raw columns. */
  readonly features: readonly { readonly column: string; readonly name: string; readonly type: 'number' | 'timestamp' | 'string' }[];
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly seed: number;
  readonly threads: number;
  /** `cpu`, or `cuda:0`: the one device that is visible. */
  readonly device: string;
  /** Less than 1 where whole batches did not fit into memory. */
  readonly batchShare: number;
  /** Folder that holds what the last attempt committed; what is here after `{"checkpoint": true}` is kept for the next one. */
  readonly checkpoint: string;
  /** Folder for `model.onnx`. */
  readonly output: string;
}

export const TrainerLineSchema = z
  .object({
    /** 0 … 1. */
    progress: z.number().min(0).max(1).nullish(),
    step: z.number().int().nonnegative().nullish(),
    metrics: z.record(z.string().min(1).max(250), z.number().nullable()).nullish(),
    message: z.string().max(1_000).nullish(),
    /** True: the checkpoint folder is whole; keep it. */
    checkpoint: z.boolean().nullish(),
    /** One number ≥ 0 for each feature column. */
    importance: z.array(z.number().min(0)).max(1_000_000).nullish(),
  })
  .refine((line) => Object.values(line).some((value) => value !== undefined), 'has none of the known fields');
export type TrainerLine = z.output<typeof TrainerLineSchema>;
