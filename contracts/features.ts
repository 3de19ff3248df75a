import { z } from 'zod';

/** A hashed or masked column, or one computed from such, is refused as a feature unless this is true. Default false. */
const personal = z.boolean().optional();

/**
 * How a raw column becomes numbers. Fitted on the training split only, and compiled into the ONNX graph in front of
 * the model. `auto` takes what suits the trainer: trees get ordinal categories and raw numbers, linear models and
 * networks get one-hot categories and scaled, imputed numbers.
 */
export const NumericFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('numeric'),
    /** What a missing value becomes; `none` leaves NaN (trees only). Default auto. */
    impute: z.union([z.enum(['auto', 'none', 'mean', 'median', 'zero']), z.number()]).default('auto'),
    scale: z.enum(['auto', 'none', 'standard']).default('auto'),
    /** log1p of the value (of values below 0: of 0), before scaling. */
    log: z.boolean().default(false),
    personal,
  }),
);
export const CategoricalFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('categorical'),
    /** `target` is the smoothed mean of the target, fitted out of fold for the training rows. */
    encode: z.enum(['auto', 'oneHot', 'ordinal', 'frequency', 'target']).default('auto'),
    /** Categories seen less often than this in training fall together with unknown ones. */
    minCount: z.number().int().min(1).default(10),
    /** The most frequent are kept. Default 1,000 for ordinal, frequency and target, 100 for one-hot. */
    maxCategories: z.number().int().min(2).max(100_000).optional(),
    personal,
  }),
);
export const DATE_PARTS = ['year', 'month', 'day', 'dayOfWeek', 'dayOfYear', 'hour', 'minute', 'epochDays'] as const;
export const DatetimeFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('datetime'),
    /** All in UTC. month 1–12, day 1–31, dayOfWeek 0 (Sunday) – 6, dayOfYear 1–366, hour 0–23, minute 0–59. */
    parts: z.array(z.enum(DATE_PARTS)).min(1).default(['month', 'dayOfWeek', 'hour']),
    personal,
  }),
);
export const TextFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('text'),
    /** Word n-grams of 1 … `ngrams` words. */
    ngrams: z.number().int().min(1).max(3).default(1),
    maxFeatures: z.number().int().min(1).max(200_000).default(5_000),
    /** Terms in fewer training documents than this are left out. */
    minDocuments: z.number().int().min(1).default(2),
    weight: z.enum(['tfidf', 'count', 'binary']).default('tfidf'),
    personal,
  }),
);
export const FeatureSchema = z.lazy(() =>
  z.discriminatedUnion('kind', [NumericFeatureSchema, CategoricalFeatureSchema, DatetimeFeatureSchema, TextFeatureSchema]),
);
export type Feature = z.infer<typeof FeatureSchema>;

/** Column name → feature. */
export const FeaturesSchema = z.lazy(() =>
  z.record(z.string().min(1), FeatureSchema).refine((f) => Object.keys(f).length > 0, 'at least one feature is needed'),
);
export type Features = z.infer<typeof FeaturesSchema>;

const build =
  <Schema extends z.ZodType>(schema: Schema, kind: string) =>
  (options: Omit<z.input<Schema>, 'kind'> = {} as Omit<z.input<Schema>, 'kind'>): z.output<Schema> =>
    schema.parse({ kind, ...options });
export const numeric = build(NumericFeatureSchema, 'numeric');
export const categorical = build(CategoricalFeatureSchema, 'categorical');
export const datetime = build(DatetimeFeatureSchema, 'datetime');
export const text = build(TextFeatureSchema, 'text');
