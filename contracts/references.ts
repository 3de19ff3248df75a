import { z } from 'zod';
import { FeatureLookupSchema } from './feature-lookup.ts';
import { NameSchema, RunIdSchema, Sha256Schema } from './ids.ts';

/**
 * References: what stages hand to each other and what stands in workflow history. Small, typed, content-addressed;
 * never the data itself.
 */
export const DatasetRefSchema = z.object({
  kind: z.literal('dataset'),
  /** SHA-256 of the dataset's manifest in the artifact store. */
  id: Sha256Schema,
  name: z.string(),
  rows: z.number().int().nonnegative(),
});
export type DatasetRef = z.infer<typeof DatasetRefSchema>;

export interface SplitRef {
  readonly train: DatasetRef;
  readonly validation: DatasetRef;
  readonly test: DatasetRef;
}

/** Pairs of a training and a validation part: each row is in one validation part. */
export interface FoldsRef {
  readonly folds: readonly { readonly train: DatasetRef; readonly validation: DatasetRef }[];
  /** Rows that no fold has; null where none were asked for. */
  readonly test: DatasetRef | null;
}

/** A trained predictor that is not judged yet. */
export const CandidateRefSchema = z.object({
  kind: z.literal('candidate'),
  /** SHA-256 of the predictor's JSON in the artifact store. */
  predictor: Sha256Schema,
  trainer: z.string(),
  task: z.enum(['binary', 'multiclass', 'regression', 'ranking', 'raw']),
  /** Where it was really trained. */
  device: z.enum(['cpu', 'gpu']),
  /** Training rows used; fewer than the split's when a sample was asked for. */
  rows: z.number().int().nonnegative(),
});
export type CandidateRef = z.infer<typeof CandidateRefSchema>;

/** The candidate that validation chose, with the figures that chose it. */
export const WinnerRefSchema = z.object({
  kind: z.literal('winner'),
  candidate: CandidateRefSchema,
  metric: z.string(),
  scores: z.array(
    z.object({
      trainer: z.string(),
      value: z.number(),
      /** The chief ones of the task, on the same rows. */ metrics: z.record(z.string(), z.number()).optional(),
    }),
  ),
});
export type WinnerRef = z.infer<typeof WinnerRefSchema>;

export const EvaluationRefSchema = z.object({
  kind: z.literal('evaluation'),
  candidate: CandidateRefSchema,
  /** Metrics on the test set. */
  metrics: z.record(z.string(), z.number()),
  /** The whole evaluation (slices, champion comparison) in the artifact store. */
  report: Sha256Schema,
});
export type EvaluationRef = z.infer<typeof EvaluationRefSchema>;

export const VersionRefSchema = z.object({ kind: z.literal('version'), model: NameSchema, version: z.number().int().positive(), predictor: Sha256Schema });
export type VersionRef = z.infer<typeof VersionRefSchema>;

export const DeploymentRefSchema = z.object({ kind: z.literal('deployment'), endpoint: NameSchema, version: VersionRefSchema, rollout: RunIdSchema });
export type DeploymentRef = z.infer<typeof DeploymentRefSchema>;

/** Online values of a feature view: the ones that are served when the stage has ended. */
export interface FeatureSetRef {
  readonly kind: 'features';
  readonly view: string;
  /** Of the definition; a changed one is a new version. */
  readonly version: number;
  /** The dataset that they come from. */
  readonly snapshot: string;
  /** UTC. */
  readonly asOf: string;
  readonly entities: number;
}

/** What an incremental ingest has read so far. `settings` is a hash of what else decides the rows: only an ingest with the same ones goes on from here. */
export const IncrementSchema = z.discriminatedUnion('by', [
  /** Rows with a greater value of the column are new. `value` is a number's or an instant's text; null when no row had one. */
  z.object({ by: z.literal('watermark'), settings: Sha256Schema, column: z.string().min(1), value: z.string().nullable() }),
  /** Files that are not among these are new. `identity` changes when a file's content does. */
  z.object({ by: z.literal('files'), settings: Sha256Schema, files: z.array(z.object({ label: z.string(), identity: z.string() })) }),
]);
export type Increment = z.infer<typeof IncrementSchema>;

/** What a dataset is kept from sight for. */
export const RESERVED = ['golden', 'validation', 'test'] as const;
export type Reserved = (typeof RESERVED)[number];

/**
 * A dataset's manifest, as it lies in the artifact store. It holds no time and no path of the machine, so the same
 * content gives the same id.
 */
export const DatasetManifestSchema = z.object({
  format: z.literal('millrace-dataset/1'),
  name: z.string(),
  rows: z.number().int().nonnegative(),
  columns: z.array(z.object({ name: z.string(), type: z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date']) })),
  /** Parquet files in row order (artifacts). */
  files: z.array(z.object({ sha256: Sha256Schema, rows: z.number().int().nonnegative(), sizeBytes: z.number().int().nonnegative() })),
  /** Row transforms applied since the raw source, in order: what serving has to do to a request's row. */
  transforms: z.array(z.unknown()),
  /** Columns as the raw source had them, before the transforms. */
  rawColumns: z.array(z.object({ name: z.string(), type: z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date']) })),
  /** Profile (artifact); null for splits' validation and test parts, which no statistic may see. */
  profile: Sha256Schema.nullable(),
  parents: z.array(Sha256Schema),
  /** Columns that a request's row cannot be given the same way: column → what made or changed it. A model that reads one is not registered. */
  unserved: z.record(z.string(), z.string()).default({}),
  /** Columns that were declared personal and are still there: column → what was done before anything was written. */
  sensitive: z.record(z.string(), z.enum(['hash', 'mask'])).default({}),
  /** Manifest of the golden set that ingest reserved beside these rows; nothing but a fixed split and the last evaluation reads it. */
  golden: Sha256Schema.nullable().default(null),
  /** Kept from sight, for judging models: no statistic, suggestion or sample is drawn from its rows. What is made from it is so too. */
  reserved: z.enum(RESERVED).nullable().default(null),
  /** Where an incremental ingest goes on. */
  increment: IncrementSchema.nullable().default(null),
  /** Columns that were joined from feature views, and how a request finds their values. */
  lookups: z.array(FeatureLookupSchema).default([]),
});
export type DatasetManifest = z.infer<typeof DatasetManifestSchema>;
