import { z } from 'zod';

/**
 * Detectors of change in a stream of one metric: values come one by one, a detector says at which one the stream has
 * changed. Names and defaults are River's.
 */
export const AdwinOptionsSchema = z.strictObject({
  kind: z.literal('adwin'),
  /** Significance of a cut, 0–1: smaller finds less and errs less. */
  delta: z.number().gt(0).lt(1).default(0.002),
  /** Looks for a change at every so manieth value. */
  clock: z.number().int().min(1).max(1_000_000).default(32),
  /** Buckets of each size that are kept before two are merged. */
  maxBuckets: z.number().int().min(2).max(1_000).default(5),
  /** Either side of a cut has at least so many values. */
  minWindowLength: z.number().int().min(1).max(1_000_000).default(5),
  /** No change is looked for before more values than this stand in the window. */
  gracePeriod: z.number().int().min(0).max(1_000_000).default(10),
});
export type AdwinOptions = z.infer<typeof AdwinOptionsSchema>;

export const PageHinkleyOptionsSchema = z.strictObject({
  kind: z.literal('pageHinkley'),
  /** No change is told before so many values. */
  minInstances: z.number().int().min(1).max(1_000_000).default(30),
  /** Changes of the mean below this are borne, in the metric's unit. */
  delta: z.number().min(0).default(0.005),
  /** Sum of deviations that is a change, in the metric's unit. */
  threshold: z.number().gt(0).default(50),
  /** What is left of the sum at each value, 0–1. */
  alpha: z
    .number()
    .gt(0)
    .lte(1)
    .default(1 - 0.0001),
  /** Which changes of the mean count. */
  mode: z.enum(['up', 'down', 'both']).default('both'),
});
export type PageHinkleyOptions = z.infer<typeof PageHinkleyOptionsSchema>;

export const DdmOptionsSchema = z.strictObject({
  kind: z.literal('ddm'),
  /** Nothing is told before more values than this. */
  warmStart: z.number().int().min(1).max(1_000_000).default(30),
  /** Standard deviations above the least error rate that are a warning, and a change. */
  warningThreshold: z.number().gt(0).default(2),
  driftThreshold: z.number().gt(0).default(3),
});
export type DdmOptions = z.infer<typeof DdmOptionsSchema>;

export const KswinOptionsSchema = z
  .strictObject({
    kind: z.literal('kswin'),
    /** A p-value up to this is a change. It is asked at every value: take it below 0.01. */
    alpha: z.number().gt(0).lt(1).default(0.005),
    /** Values that are kept. */
    windowSize: z.number().int().min(2).max(10_000).default(100),
    /** The newest so many are compared with as many of the others, drawn by chance. */
    statSize: z.number().int().min(1).max(5_000).default(30),
    /** Of the draws. */
    seed: z.number().int().nonnegative().default(0),
  })
  .refine(({ windowSize, statSize }) => windowSize >= 2 * statSize, { error: '`windowSize` must be at least twice `statSize`', path: ['statSize'] });
export type KswinOptions = z.infer<typeof KswinOptionsSchema>;

export const DetectorOptionsSchema = z.discriminatedUnion('kind', [AdwinOptionsSchema, PageHinkleyOptionsSchema, DdmOptionsSchema, KswinOptionsSchema]);
export type DetectorOptions = z.infer<typeof DetectorOptionsSchema>;
/** As people write them: all but `kind` may be left out. */
export type DetectorOptionsInput = z.input<typeof DetectorOptionsSchema>;

const count = z.number().int().nonnegative();

/** What a detector knows, as JSON: it goes on from here in another window, or in another process. */
export const DetectorStateSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('adwin'),
    options: AdwinOptionsSchema,
    tick: count,
    variance: z.number(),
    total: z.number(),
    /** Row i: buckets of 2^i values, the oldest first, as pairs of sum and sum of squared deviations. */
    rows: z.array(z.array(z.tuple([z.number(), z.number()])).max(1_001)).max(64),
    drifted: z.boolean(),
  }),
  z.strictObject({
    kind: z.literal('pageHinkley'),
    options: PageHinkleyOptionsSchema,
    values: count,
    mean: z.number(),
    increase: z.number(),
    decrease: z.number(),
    /** Null before the first value. */
    leastIncrease: z.number().nullable(),
    greatestDecrease: z.number(),
    drifted: z.boolean(),
  }),
  z.strictObject({
    kind: z.literal('ddm'),
    options: DdmOptionsSchema,
    values: count,
    errorRate: z.number(),
    /** Error rate and its standard deviation where their sum was least; null before the end of the warm start. */
    least: z.strictObject({ rate: z.number(), deviation: z.number() }).nullable(),
    drifted: z.boolean(),
  }),
  z.strictObject({
    kind: z.literal('kswin'),
    options: KswinOptionsSchema,
    /** Draws made so far: the next one's number. */
    draws: count,
    /** The oldest first. */
    window: z.array(z.number()).max(10_000),
  }),
]);
export type DetectorState = z.infer<typeof DetectorStateSchema>;

/** What one value says: whether the stream has changed, and of `ddm` whether it looks as if it might. */
export interface DetectorSignal {
  readonly drift: boolean;
  readonly warning?: boolean;
}
