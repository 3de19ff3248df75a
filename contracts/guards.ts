import { z } from 'zod';

/**
 * What takes a rollout back: declared with a strategy, judged by tests that stay valid however often one looks
 * (ml/sequential/). All of a rollout's guards together take identical versions back in at most 5 % of rollouts.
 */
const MetricGuardSchema = z.strictObject({
  /** Of labels: `correct`, `absoluteError`, `squaredError`, `logLoss`. Of outcomes: the name that they are sent under. */
  metric: z.string().min(1).max(200),
  /** By how much the challenger's mean may be worse than the champion's, in the metric's unit. Default 0. */
  notWorse: z.number().min(0).default(0),
  /** Which side is good. Default: `lower` for `absoluteError`, `squaredError` and `logLoss`, else `higher`. */
  better: z.enum(['higher', 'lower']).optional(),
});
export type MetricGuard = z.infer<typeof MetricGuardSchema>;

const RatioSchema = z.strictObject({ maxRatio: z.number().gt(1).max(1000) });

const ErrorRateSchema = z.strictObject({
  /** The share of its requests that may fail, 0–1. Counts only while more of the challenger's fail than of the champion's. Left out: no limit of its own. */
  atMost: z.number().gt(0).lt(1).optional(),
  /** Whether it may not fail more often than the champion at the same time. */
  notWorse: z.boolean().default(true),
});

const LatencySchema = z.strictObject({
  p50: RatioSchema.optional(),
  p95: RatioSchema.optional(),
  p99: RatioSchema.optional(),
  /** What takes the challenger less than this is never too slow, in milliseconds: there a ratio measures the machine. */
  ignoreBelowMs: z.number().min(0).default(5),
});

const OutputsSchema = z.strictObject({
  /** Total variation between what challenger and champion answer: the share of answers that would have to be others, 0–1. */
  maxDistance: z.number().gt(0).lt(1),
});

const off = z.literal(false);

export const GuardsSchema = z.strictObject({
  /** Server errors (5xx) of the challenger against the champion's. A number is `atMost`. */
  errorRate: z.union([off, z.number().gt(0).lt(1), ErrorRateSchema]).default({ notWorse: true }),
  /** Percentiles of the challenger's latency against the champion's. */
  latency: z.union([off, LatencySchema]).default({ p99: { maxRatio: 2 }, ignoreBelowMs: 5 }),
  /** The distribution of its answers against the champion's. A new version may well answer otherwise: the default catches what is broken. */
  outputs: z.union([off, OutputsSchema]).default({ maxDistance: 0.5 }),
  /** Share of rows, 0–1, which both answer alike, where requests are mirrored. */
  agreement: z.strictObject({ atLeast: z.number().gt(0).lt(1) }).optional(),
  /** From labels that come as feedback. */
  quality: z.union([MetricGuardSchema, z.array(MetricGuardSchema).max(10)]).optional(),
  /** From outcomes that come as feedback. */
  business: z.union([MetricGuardSchema, z.array(MetricGuardSchema).max(10)]).optional(),
});
export type Guards = z.infer<typeof GuardsSchema>;
/** As people write them: everything may be left out. */
export type GuardsOptions = z.input<typeof GuardsSchema>;

/** What every rollout with a challenger is watched for unless it says otherwise. */
export const DEFAULT_GUARDS: Guards = GuardsSchema.parse({});

/** Why traffic is taken back. */
export interface GuardBreach {
  /** `errorRate`, `errorRate.atMost`, `latency.p99`, `outputs`, `agreement`, `quality.correct`, `business.revenue`, `server` (a prediction server did it by itself). */
  readonly guard: string;
  /** For people: what was seen, of how many, and what was allowed. */
  readonly sentence: string;
  readonly figures: Readonly<Record<string, number>>;
}

export interface GuardVerdict {
  readonly breach: GuardBreach | null;
  /** What was seen up to the last look: requests, errors, p50, p99 of both, each guard's evidence as a p-value. */
  readonly figures: Readonly<Record<string, number>>;
}
