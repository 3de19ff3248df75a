import { z } from 'zod';
import { DetectorOptionsSchema } from './detectors.ts';
import { DriftSettingsSchema } from './drift.ts';
import { MillraceError } from './errors.ts';
import { MetricSchema } from './evaluation.ts';
import { FeaturesSchema } from './features.ts';
import { RetrainingSettingsSchema } from './retraining.ts';
import { TrainerSpecSchema } from './stages.ts';

const blocks = z.number().int().min(1).max(10_000);

/** Rows that a version is trained on, all of them labelled by then. */
const WindowSchema = z.discriminatedUnion('window', [
  z.strictObject({ window: z.literal('all') }),
  /** The newest blocks. */
  z.strictObject({ window: z.literal('sliding'), blocks }),
  /** From where the quality of what served last changed (ADWIN, Bifet and Gavaldà 2007), so many blocks at least. */
  z.strictObject({ window: z.literal('sinceChange'), atLeastBlocks: blocks.default(1) }),
]);

/** Of the newest labelled block, as the version that served it did. Several at once: any of them is a reason. */
const QualitySchema = z
  .strictObject({
    /** Worse than this value. */
    below: z.number().optional(),
    /** Worse by more than this than in the first block that the version served. */
    drop: z.number().min(0).optional(),
    /** Worse by more than this than versions so far did in the first block that they served, on average: what a new one may be expected to do. */
    belowFresh: z.number().min(0).optional(),
  })
  .refine((rules) => Object.keys(rules).length > 0, 'needs one of below, drop, belowFresh');

const except = z.array(z.string().min(1)).max(1_000).default([]);

/**
 * What a monitor measures of each block as of a window: its features against the rows that trained the version that served it. No label
 * is waited for.
 */
const FeatureDriftSchema = z.union([
  /** By tests whose false alarms are bounded, as `monitor({ retrainOn: { drift: 'calibrated' } })`. */
  z.literal('calibrated'),
  /** The same with other settings, some of them; `except`: columns that are not looked at. */
  z.strictObject({ calibrated: DriftSettingsSchema, except }),
  /** The index of a column is above this, in so many blocks in a row. */
  z.strictObject({ psi: z.number().positive(), windows: z.int().min(1).max(1_000).default(1), except }),
]);
export type FeatureDriftRule = z.output<typeof FeatureDriftSchema>;

/** A new version is let through when it holds this on the newest labelled rows, which are then kept out of its training. */
const GateSchema = z
  .strictObject({
    /** Default: the simulation's metric. */
    metric: MetricSchema.optional(),
    /** Share of the training window's newest rows that are kept out and judge the version. */
    holdout: z.number().min(0.01).max(0.5).default(0.1),
    /** At least this good. */
    atLeast: z.number().optional(),
    /** At most so much worse than the version that serves, on the same rows. */
    worseBy: z.number().min(0).optional(),
    /** False: only told which versions it would have blocked. */
    enforced: z.boolean().default(true),
  })
  .refine(({ atLeast, worseBy }) => atLeast !== undefined || worseBy !== undefined, 'needs atLeast, worseBy or both');

/** When to retrain, on what, and which version then serves. Decisions are made where a block begins, from labels that are known by then. */
export const PolicySchema = z.strictObject({
  name: z.string().min(1).max(100),
  train: WindowSchema.default({ window: 'sliding', blocks: 2 }),
  /** Reasons to retrain. None of them: the first version stays. */
  retrain: z
    .strictObject({
      /** Every so many blocks, for the first time after `first` of them (default: as many). */
      every: z.union([blocks, z.strictObject({ blocks, first: blocks })]).optional(),
      /**
       * Of features, or a detector over each answered row's error (1 for a wrong class, of values the absolute error), in the order of
       * the rows.
       */
      drift: z.union([...FeatureDriftSchema.options, DetectorOptionsSchema]).optional(),
      quality: QualitySchema.optional(),
    })
    .default({}),
  /** `newest`: the version that was let through last. `bestOf`: of so many of the newest versions the one that did best on the newest labelled block. */
  serve: z.union([z.literal('newest'), z.strictObject({ bestOf: z.number().int().min(2).max(1_000) })]).default('newest'),
  /** Settings of the controller, as a pipeline has them: cool-down, budget, quiet hours, back-off. Without a column of time a block takes a day. */
  controller: RetrainingSettingsSchema.default({}),
  gate: GateSchema.optional(),
});
export type Policy = z.output<typeof PolicySchema>;

/** The data that is replayed and the model that is trained. What is not said is taken from the pipeline's last run. */
export const SimulationSchema = z.strictObject({
  target: z.string().min(1).optional(),
  /** Column that orders the rows. Default: the order in which they lie. */
  time: z.string().min(1).optional(),
  trainer: TrainerSpecSchema.optional(),
  features: FeaturesSchema.optional(),
  task: z.enum(['auto', 'binary', 'multiclass', 'regression']).optional(),
  /** `count`: so many blocks of as many rows; `rows`: blocks of so many rows; `hours`: of so many hours by `time`, those without rows left out. */
  blocks: z
    .union([
      z.strictObject({ count: z.number().int().min(3).max(10_000) }),
      z.strictObject({ rows: z.number().int().min(1) }),
      z.strictObject({ hours: z.number().gt(0) }),
    ])
    .default({ count: 20 }),
  /** Blocks that the first version is trained on. The next one is the first that is scored. */
  start: blocks.default(2),
  /** Default: accuracy of classes, rmse of values. */
  metric: MetricSchema.optional(),
  /** Labels are known so many blocks after the end of their block. */
  labelDelayBlocks: z.number().int().min(0).max(1_000).default(0),
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .default(0),
  /** Cost of an hour of training. Default: what millrace.config.ts says of the pool `cpu`. */
  costPerHour: z.number().min(0).optional(),
});
export type Simulation = z.output<typeof SimulationSchema>;

/** What a policy file holds: policies, and of what they are judged where that is not the pipeline's last run. */
const PolicyFileSchema = z.strictObject({
  simulation: SimulationSchema.partial().default({}),
  policies: z
    .array(PolicySchema)
    .min(1)
    .max(200)
    .superRefine((policies, context) => {
      policies.forEach(({ name }, at) => {
        if (policies.findIndex((other) => other.name === name) < at)
          context.addIssue({ code: 'custom', path: [at, 'name'], message: `${name} is there already` });
      });
    }),
});

export interface PolicyFile {
  /** Only what the file says of it: no defaults. */
  readonly simulation: Readonly<Record<string, unknown>>;
  readonly policies: readonly Policy[];
}

/**
 * Reads the content of a policy file: one policy, a list of them, or `{ simulation, policies }`.
 * @throws MillraceError INVALID_PARAMETERS with every problem
 */
export function readPolicies(content: unknown, file: string): PolicyFile {
  const isOne = typeof content === 'object' && content !== null && !Array.isArray(content) && !('policies' in content);
  const parsed = PolicyFileSchema.safeParse(isOne ? { policies: [content] } : Array.isArray(content) ? { policies: content } : content);
  if (parsed.success) {
    const said = isOne || Array.isArray(content) ? {} : ((content as { readonly simulation?: Readonly<Record<string, unknown>> }).simulation ?? {});
    return { simulation: said, policies: parsed.data.policies };
  }
  throw new MillraceError('INVALID_PARAMETERS', `${file} holds no policies that can be followed.`, {
    problems: parsed.error.issues
      .flatMap(nearestProblems)
      .map(({ path, message }) => ({ path: (isOne ? path.slice(2) : path).map(String).join('.') || 'the file', message, file })),
    fix: 'Correct each value that is listed, in the file.',
  });
}

type Issue = Pick<z.core.$ZodIssue, 'path' | 'message'>;

/** Of a choice between forms the problems of the form that was meant: the one that has some of what was written. */
function nearestProblems(issue: z.core.$ZodIssue): readonly Issue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const meant = issue.errors.find((problems) => problems.length > 0 && problems.every(({ path }) => path.length > 0));
  return meant?.flatMap(nearestProblems).map(({ path, message }) => ({ path: [...issue.path, ...path], message })) ?? [issue];
}
