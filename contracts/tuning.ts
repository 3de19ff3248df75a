import { z } from 'zod';
import { type CandidateRef, CandidateRefSchema, DatasetRefSchema } from './references.ts';
import type { JsonValue } from './search-space.ts';
import { MetricSchema, TrainInputSchema } from './stages.ts';

/** Their records must fit into one message of Temporal's (2 MiB), with which a long tuning goes on. */
export const MOST_TRIALS = 1_000;

/** How values are chosen: at random, all of a grid, by Parzen estimators (TPE), or by CMA-ES. */
export const SearchMethodSchema = z.discriminatedUnion('method', [
  z.strictObject({ method: z.literal('random') }),
  z.strictObject({
    method: z.literal('grid'),
    /** Values of a parameter that is not a choice: so many, evenly spaced; both ends are among them. */
    points: z.number().int().min(1).max(1_000).default(5),
  }),
  z.strictObject({
    method: z.literal('tpe'),
    /** Trials at random before anything is estimated. Default 10. */
    startupTrials: z.number().int().min(1).max(10_000).optional(),
  }),
  z.strictObject({ method: z.literal('cmaEs') }),
]);
export type SearchMethod = z.output<typeof SearchMethodSchema>;

/** When a trial that is worse than others is stopped early. */
export const StopRuleSchema = z.discriminatedUnion('rule', [
  z.strictObject({
    rule: z.literal('median'),
    /** Completed trials before any is stopped. */
    startupTrials: z.number().int().min(1).max(10_000).default(5),
    /** So many looks at each trial, evenly over its training. */
    rungs: z.number().int().min(1).max(50).default(9),
    /** No trial is stopped before this share of its training. */
    leastFraction: z.number().min(0).lt(1).default(0),
  }),
  z.strictObject({
    rule: z.literal('asha'),
    /** η: at each rung the best 1/η go on; rungs lie at 1/η, 1/η² … of the training. */
    reduction: z.number().min(2).max(100).default(4),
    /** The first rung is not before this share of the training. */
    leastFraction: z.number().gt(0).lt(1).default(0.05),
  }),
]);
export type StopRule = z.output<typeof StopRuleSchema>;

/** After which no trial begins any more; those that run go to their end. */
export const TuningBudgetSchema = z.strictObject({
  timeMs: z.number().int().min(0).optional(),
  cpuSeconds: z.number().min(0).optional(),
  gpuSeconds: z.number().min(0).optional(),
  /** In the currency of the configuration's rates. */
  cost: z.number().min(0).optional(),
});
export const TuningSettingsSchema = z.object({
  trials: z.number().int().min(1).max(MOST_TRIALS),
  parallel: z.number().int().min(1).max(500),
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 31 - 1),
});
export type TuningBudget = z.output<typeof TuningBudgetSchema>;

/** What the update `steer` may change while a tuning runs. Trials that run are not touched, unless it is stopped `now`. */
export const SteerSchema = z.strictObject({
  trials: z.number().int().min(1).max(MOST_TRIALS).optional(),
  parallel: z.number().int().min(1).max(500).optional(),
  budget: TuningBudgetSchema.optional(),
  /** Null: no trial is stopped early any more. */
  stopRule: StopRuleSchema.nullable().optional(),
  /** The whole space anew; trials whose values it still has stay known. */
  space: z.record(z.string(), z.unknown()).optional(),
  /** `afterRunning`: no trial begins any more. `now`: those that run are cancelled too. */
  stop: z.enum(['afterRunning', 'now']).optional(),
});
export type Steer = z.output<typeof SteerSchema>;

/** One trial, as it stands in the history of a tuning. */
export const TrialRecordSchema = z.object({
  /** From 1. */
  trial: z.number().int().positive(),
  /** `cancelled`: by `steer`, as the tuning was stopped. */
  state: z.enum(['completed', 'stopped', 'failed', 'cancelled']),
  /** By parameter. */
  values: z.record(z.string(), z.custom<JsonValue>()),
  value: z.number().nullable(),
  rungs: z.array(z.object({ fraction: z.number(), value: z.number() })),
  /** Predictor of a completed one (artifact). */
  predictor: z.string().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  seconds: z.number(),
  cpuSeconds: z.number(),
  gpuSeconds: z.number(),
  cost: z.number(),
});
export type TrialRecord = z.output<typeof TrialRecordSchema>;

/** The history of a tuning, as it lies in the artifact store: what plots and warm starts read. */
export const TuningHistorySchema = z.object({
  format: z.literal('millrace-tuning/1'),
  metric: z.string(),
  direction: z.enum(['minimize', 'maximize']),
  search: SearchMethodSchema,
  seed: z.number(),
  /** As the last trials were drawn from it. */
  parameters: z.array(
    z.object({
      name: z.string(),
      kind: z.enum(['float', 'int', 'categorical']),
      low: z.number().optional(),
      high: z.number().optional(),
      log: z.boolean().optional(),
      options: z.array(z.custom<JsonValue>()).optional(),
    }),
  ),
  /** In the order of their numbers. */
  trials: z.array(TrialRecordSchema),
  /** Number of the best trial. */
  best: z.number().int().positive(),
});
export type TuningHistory = z.output<typeof TuningHistorySchema>;

/** How far a tuning is: the answer of its query `state`. */
export interface TuningState {
  readonly trials: number;
  readonly parallel: number;
  readonly ended: number;
  readonly running: readonly number[];
  readonly completed: number;
  readonly stopped: number;
  readonly failed: number;
  readonly best: { readonly trial: number; readonly value: number; readonly values: Readonly<Record<string, JsonValue>> } | null;
  readonly used: { readonly cpuSeconds: number; readonly gpuSeconds: number; readonly cost: number };
  readonly stopping: string | null;
}

/** What it takes a trial to go on, at shares of its training. */
export const TrialLimitsSchema = z.object({
  by: z.enum(['last', 'best']),
  rungs: z.array(z.object({ fraction: z.number().gt(0).lt(1), limit: z.number().nullable() })).max(50),
});

/** Input of the stage `trial`. */
export const TrialInputSchema = TrainInputSchema.extend({ validation: DatasetRefSchema, metric: MetricSchema, limits: TrialLimitsSchema.nullable() });

export interface TrialOutput {
  readonly kind: 'trial';
  /** Null when it was stopped early. */
  readonly candidate: CandidateRef | null;
  readonly value: number | null;
  readonly rungs: readonly { readonly fraction: number; readonly value: number }[];
  readonly stoppedAt: number | null;
}

/** Input of the stage `tune`, which ends a tuning. */
export const TuneInputSchema = z.object({
  history: TuningHistorySchema.extend({ best: z.number().nullable() }),
  /** Of the best trial. */
  candidate: CandidateRefSchema.nullable(),
  /** Why it ended before all its trials, if it did. */
  cancelled: z.string().nullable(),
});

export interface TuneOutput {
  readonly kind: 'tuned';
  readonly best: CandidateRef;
  /** Of the metric, on the validation rows. */
  readonly value: number;
  /** Number of the best trial, from 1. */
  readonly trial: number;
  /** What the search chose for it, by parameter. */
  readonly values: Readonly<Record<string, JsonValue>>;
  /** How many trials there were, and what became of them. */
  readonly trials: number;
  readonly completed: number;
  readonly stopped: number;
  readonly failed: number;
  /** All trials (artifact, `millrace-tuning/1`). */
  readonly history: string;
}
