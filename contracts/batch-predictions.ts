import { z } from 'zod';
import { NameSchema } from './ids.ts';
import { DatasetRefSchema, type DatasetRef, type VersionRef, VersionRefSchema } from './references.ts';

/** A registered version, or MODEL, MODEL@3, MODEL@ALIAS: without a name the champion, and where there is none the newest. */
const VersionNameSchema = z.string().regex(/^[^@]+(?:@[^@]+)?$/, 'has to be MODEL, MODEL@NUMBER or MODEL@ALIAS');

/** Rows of a file of predictions unless another number is given: whole row groups, a few seconds of work. */
export const DEFAULT_FILE_ROWS = 983_040;

export const BatchPredictInputSchema = z.object({
  version: z.union([VersionRefSchema, VersionNameSchema]),
  dataset: DatasetRefSchema,
  /** Columns of the dataset that stand beside the predictions. Default: all. */
  columns: z.array(z.string().min(1)).optional(),
  /** Stands before the names of the predicted columns. */
  prefix: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9_]{0,40}$/, 'begins with a letter and has letters, digits and _')
    .optional(),
  /** Of the new dataset. Default: the dataset's, followed by -predictions. */
  name: NameSchema.optional(),
  /** Rows of one file. What was written of a file is lost when the worker dies; whole files are kept. */
  fileRows: z.number().int().min(1_000).max(50_000_000).default(DEFAULT_FILE_ROWS),
  threads: z.number().int().min(1).max(256).optional(),
});
export type BatchPredictInput = z.infer<typeof BatchPredictInputSchema>;

/** Predictions as the stage hands them on. */
export interface ScoredDataset {
  readonly predictions: DatasetRef;
  /** Who predicted. */
  readonly version: VersionRef;
}

/** Where predictions are put: a table of the schema `predictions`, or an endpoint's answers by key. */
export const PredictionTargetSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('table'),
    name: z.string().regex(/^[a-z][a-z0-9_]{0,47}$/, 'begins with a small letter and has at most 48 small letters, digits and _'),
  }),
  z.object({ kind: z.literal('endpoint'), name: NameSchema, key: z.array(z.string().min(1)).min(1).max(10) }),
]);
export type PredictionTarget = z.infer<typeof PredictionTargetSchema>;

export const PublishPredictionsInputSchema = z.object({
  predictions: DatasetRefSchema,
  version: VersionRefSchema,
  to: PredictionTargetSchema,
  /** Of the predicted columns' names. */
  prefix: z.string().default(''),
});

/** Predictions that are in service: a table's rows, or the answers of an endpoint's keys. */
export interface PublishedPredictions extends ScoredDataset {
  readonly to: PredictionTarget;
  readonly rows: number;
}
