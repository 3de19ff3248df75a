import { z } from 'zod';

/** A hashed or masked column, or one computed from such, is refused as a feature unless this is true. Default false. */
const personal = z.boolean().optional();

/** The raw column that is read. Default: the feature's name, so that one column can give several features. */
const column = z.string().min(1).optional();
const buckets = z.number().int().min(2).max(262_144).optional();

/**
 * Where a number falls: `by: 'quantile'` cuts training into bins of as many rows, `by: 'uniform'` into bins of one width,
 * `edges` states the cuts (a number equal to an edge belongs above it). Numbers beyond the ends fall into the end bins.
 */
export const BinsSchema = z.lazy(() =>
  z.union([
    z.strictObject({ by: z.enum(['quantile', 'uniform']).default('quantile'), count: z.number().int().min(2).max(1_000).default(10) }),
    z.strictObject({
      edges: z
        .array(z.number())
        .min(1)
        .max(1_000)
        .refine((edges) => edges.every((edge, i) => i === 0 || edge > (edges[i - 1] ?? edge)), 'edges must ascend'),
    }),
  ]),
);
export type Bins = z.output<typeof BinsSchema>;

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
    /** `standard`: mean 0, deviation 1. `minmax`: 0 … 1 in training. `robust`: median 0, distance between the quartiles 1. */
    scale: z.enum(['auto', 'none', 'standard', 'minmax', 'robust']).default('auto'),
    /** log1p of the value (of values below 0: of 0), before scaling. */
    log: z.boolean().default(false),
    /** Cuts values off before all else: at quantiles of the training rows, or at bounds. Default: none are cut. */
    clip: z
      .union([
        z.strictObject({
          quantiles: z
            .tuple([z.number().min(0).max(1), z.number().min(0).max(1)])
            .refine(([low, high]) => low < high, 'the first quantile must be the lower one'),
        }),
        z
          .strictObject({ lower: z.number().optional(), upper: z.number().optional() })
          .refine(({ lower, upper }) => lower === undefined || upper === undefined || lower <= upper, 'lower must not be above upper'),
      ])
      .optional(),
    /** Bins in place of the number; not with `scale` other than auto and none. */
    bins: BinsSchema.optional(),
    /** What bins become: a column each, with one for missing values, or the bin's number. Default: number for trees, else columns. */
    binsAs: z.enum(['oneHot', 'ordinal']).optional(),
    /** One more column `NAME.missing`: 1 where the value is missing, else 0. Default false. */
    indicator: z.boolean().optional(),
    column,
    personal,
  }),
);
export const CategoricalFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('categorical'),
    /**
     * `native` is for gbdt, which splits by sets of categories, at most 254; `auto` is that there (`ordinal`, by the target's
     * mean, for more), and one-hot elsewhere. `target` is the smoothed mean of the target, fitted out of fold for the training rows. `hash` has no list of
     * categories: MurmurHash3 of the value modulo `buckets` says which of so many columns is 1; a missing value is none.
     */
    encode: z.enum(['auto', 'native', 'oneHot', 'ordinal', 'frequency', 'target', 'hash']).default('auto'),
    /** Categories seen less often than this in training fall together with unknown ones. */
    minCount: z.number().int().min(1).default(10),
    /** The most frequent are kept. Default 254 for native, 1,000 for ordinal, frequency and target, 100 for one-hot. */
    maxCategories: z.number().int().min(2).max(100_000).optional(),
    /** Columns of `hash`. Default 256. */
    buckets,
    /** Rows of the overall mean that each category's mean is mixed with, for `target`. Default 20. */
    smoothing: z.number().min(0).max(1e9).optional(),
    column,
    personal,
  }),
);
export const DATE_PARTS = ['year', 'month', 'day', 'dayOfWeek', 'dayOfYear', 'hour', 'minute', 'epochDays'] as const;
export const DatetimeFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('datetime'),
    /** All in UTC. month 1–12, day 1–31, dayOfWeek 0 (Sunday) – 6, dayOfYear 1–366, hour 0–23, minute 0–59. */
    parts: z.array(z.enum(DATE_PARTS)).min(1).default(['month', 'dayOfWeek', 'hour']),
    /** Sine and cosine in place of each part that comes round (all but year and epochDays), so that 23 is beside 0. Default false. */
    cyclic: z.boolean().optional(),
    column,
    personal,
  }),
);
export const TextFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('text'),
    /** `word` n-grams of words; `char` n-grams of characters, runs of white space taken as one blank. Default word. */
    analyzer: z.enum(['word', 'char']).optional(),
    /** n-grams of 1 … `ngrams` words or characters, or of [least, most]. */
    ngrams: z
      .union([
        z.number().int().min(1).max(8),
        z
          .tuple([z.number().int().min(1).max(8), z.number().int().min(1).max(8)])
          .refine(([least, most]) => least <= most, 'the first number must be the smaller one'),
      ])
      .default(1),
    maxFeatures: z.number().int().min(1).max(200_000).default(5_000),
    /** Terms in fewer training documents than this are left out. */
    minDocuments: z.number().int().min(1).default(2),
    /** Terms in a larger share of the training documents than this are left out. Default 1: none. */
    maxShare: z.number().gt(0).max(1).optional(),
    weight: z.enum(['tfidf', 'count', 'binary']).default('tfidf'),
    /** 1 + ln(count) in place of the count. Default false. */
    sublinear: z.boolean().optional(),
    /** `l2` makes each text's vector one long. Default l2 for tfidf, else none. */
    norm: z.enum(['l2', 'none']).optional(),
    /** No vocabulary: MurmurHash3 of the n-gram modulo `buckets` says in which of so many columns it counts. */
    buckets,
    column,
    personal,
  }),
);
/** Two to four columns taken together as one category: `origin` × `destination`. */
export const CrossFeatureSchema = z.lazy(() =>
  z.object({
    kind: z.literal('cross'),
    /** A column of categories by its name; a column of numbers with the bins that it falls into. */
    columns: z
      .array(z.union([z.string().min(1), z.strictObject({ column: z.string().min(1), bins: BinsSchema })]))
      .min(2)
      .max(4),
    /** As `categorical`'s. */
    encode: z.enum(['auto', 'native', 'oneHot', 'ordinal', 'frequency', 'target', 'hash']).default('auto'),
    minCount: z.number().int().min(1).default(10),
    maxCategories: z.number().int().min(2).max(100_000).optional(),
    buckets,
    smoothing: z.number().min(0).max(1e9).optional(),
    personal,
  }),
);
/** A number as it is: never scaled, cut or filled for trees; for all others a missing value is the training mean. */
export const PassthroughFeatureSchema = z.lazy(() => z.object({ kind: z.literal('passthrough'), column, personal }));
export const FeatureSchema = z.lazy(() =>
  z.discriminatedUnion('kind', [
    NumericFeatureSchema,
    CategoricalFeatureSchema,
    DatetimeFeatureSchema,
    TextFeatureSchema,
    CrossFeatureSchema,
    PassthroughFeatureSchema,
  ]),
);
export type Feature = z.infer<typeof FeatureSchema>;

/** Feature's name → feature. The name is the column's, unless the feature says which column(s) it reads. */
export const FeaturesSchema = z.lazy(() =>
  z.record(z.string().min(1), FeatureSchema).refine((f) => Object.keys(f).length > 0, 'at least one feature is needed'),
);
export type Features = z.infer<typeof FeaturesSchema>;

/** The raw columns that a feature reads. */
export function columnsOfFeature(name: string, feature: Feature): readonly string[] {
  if (feature.kind === 'cross') return feature.columns.map((part) => (typeof part === 'string' ? part : part.column));
  return [feature.column ?? name];
}

/** The raw columns that the features read, each once. */
export const featureColumns = (features: Features): readonly string[] => [
  ...new Set(Object.entries(features).flatMap(([name, feature]) => columnsOfFeature(name, feature))),
];

const build =
  <Schema extends z.ZodType>(schema: Schema, kind: string) =>
  (options: Omit<z.input<Schema>, 'kind'> = {} as Omit<z.input<Schema>, 'kind'>): z.output<Schema> =>
    schema.parse({ kind, ...options });
export const numeric = build(NumericFeatureSchema, 'numeric');
export const categorical = build(CategoricalFeatureSchema, 'categorical');
export const datetime = build(DatetimeFeatureSchema, 'datetime');
export const text = build(TextFeatureSchema, 'text');
export const passthrough = build(PassthroughFeatureSchema, 'passthrough');
/** Two to four columns as one category: `cross({ columns: ['origin', { column: 'distance', bins: { count: 5 } }] })`. */
export const cross = (options: Omit<z.input<typeof CrossFeatureSchema>, 'kind'>): z.output<typeof CrossFeatureSchema> =>
  CrossFeatureSchema.parse({ kind: 'cross', ...options });
