import { z } from 'zod';

/**
 * Tests of how a model behaves, whatever its metrics say. They run on rows of the evaluation's dataset, with columns as
 * they are after the row transforms; `mustPass` on rows as a request carries them.
 */
const CellSchema = z.union([z.number(), z.string(), z.boolean(), z.null()]);
const SeveritySchema = z.enum(['fail', 'warn']).default('fail');
const SampleShape = {
  /** Rows that are tried, drawn with the seed. */
  rows: z.number().int().min(1).max(100_000).default(1_000),
  /** Share of the rows that may fail. */
  allow: z.number().min(0).max(1).default(0),
  seed: z.number().int().nonnegative().default(0),
  severity: SeveritySchema,
};

const InvarianceSchema = z.object({
  kind: z.literal('invariance'),
  column: z.string().min(1),
  /** Each row is tried with each of these. Default: the value of another row, drawn at random. */
  to: z.array(CellSchema).min(1).max(50).optional(),
  /** Most that a probability (of any class), or the value of a regression, may change by. */
  atMost: z.number().min(0).default(0),
  ...SampleShape,
});

const DirectionSchema = z.object({
  kind: z.literal('direction'),
  column: z.string().min(1),
  /** What is added to the column: a number; of timestamps milliseconds. */
  add: z.number().optional(),
  times: z.number().optional(),
  /** `up`: the score must not fall; `down`: it must not rise. */
  expect: z.enum(['up', 'down']),
  /** Of several classes: whose probability. */
  class: z.string().optional(),
  /** A change of so much to the wrong side is let pass. */
  tolerance: z.number().min(0).default(0),
  ...SampleShape,
});

const MustPassSchema = z.object({
  kind: z.literal('mustPass'),
  rows: z
    .array(
      z.object({
        row: z.record(z.string(), CellSchema),
        /** The class that must be answered. */
        answer: z.string().optional(),
        /** Where the probability of the positive class (of `answer`, if there are more), or the value, must lie. */
        between: z.tuple([z.number(), z.number()]).optional(),
      }),
    )
    .min(1)
    .max(1_000),
  severity: SeveritySchema,
});

export const BehaviourTestSchema = z.discriminatedUnion('kind', [InvarianceSchema, DirectionSchema, MustPassSchema]);
export type BehaviourTest = z.infer<typeof BehaviourTestSchema>;
export type BehaviourTestInput = z.input<typeof BehaviourTestSchema>;

/** Another value of the column must not change the answer by more than `atMost`. */
export const invariance = (options: Omit<z.input<typeof InvarianceSchema>, 'kind'>): BehaviourTestInput => ({ kind: 'invariance', ...options });

/** A greater value of the column (`add`, `times`) must move the score `up`, or `down`, or leave it. */
export const direction = (options: Omit<z.input<typeof DirectionSchema>, 'kind'>): BehaviourTestInput => ({ kind: 'direction', ...options });

/** Rows, as a request carries them, that must be answered so. */
export const mustPass = (rows: z.input<typeof MustPassSchema>['rows'], options: { readonly severity?: 'fail' | 'warn' } = {}): BehaviourTestInput => ({
  kind: 'mustPass',
  rows,
  ...options,
});
