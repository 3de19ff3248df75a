import type { z } from 'zod';
import type { BatchPredictInputSchema, PredictionTarget, PublishedPredictions, ScoredDataset } from '../contracts/batch-predictions.ts';
import type { DatasetRef, VersionRef } from '../contracts/references.ts';
import { runStage, type StageOptions } from './run.ts';

/** A table of the schema `predictions` in Millrace's Postgres: where `batchPredict` puts its rows. */
export const table = (name: string): PredictionTarget => ({ kind: 'table', name });

export interface BatchPredictOptions extends StageOptions, Omit<z.input<typeof BatchPredictInputSchema>, 'version' | 'dataset' | 'name'> {
  /** Where the predictions are put beside their snapshot. */
  readonly to?: PredictionTarget;
  /** Of the new dataset. Default: the dataset's, followed by -predictions. */
  readonly dataset?: string;
}

/**
 * Scores a dataset with a registered version, `MODEL`, `MODEL@3` or `MODEL@ALIAS`, into a new immutable snapshot: each row's
 * predictions beside its columns. A worker that dies is followed by one that goes on after the last file that was written.
 * With `to: table('name')` the rows are put into `predictions.name` in one transaction, and taken out again when the run fails later.
 *
 * @throws COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS where the rows do not fit the model; NOT_FOUND for an unknown version.
 */
export async function batchPredict(
  version: VersionRef | string,
  dataset: DatasetRef,
  options: BatchPredictOptions & { readonly to: PredictionTarget },
): Promise<PublishedPredictions>;
export async function batchPredict(version: VersionRef | string, dataset: DatasetRef, options?: BatchPredictOptions): Promise<ScoredDataset>;
export async function batchPredict(
  version: VersionRef | string,
  dataset: DatasetRef,
  options: BatchPredictOptions = {},
): Promise<ScoredDataset | PublishedPredictions> {
  const { to, columns, prefix, dataset: name, fileRows, threads, ...stage } = options;
  const input = { version, dataset, columns, prefix, name, fileRows, threads };
  const scored = await runStage<ScoredDataset>('batchPredict', 'batch-predict', withoutUnset(input), stage);
  if (to === undefined) return scored;
  return runStage(
    'publishPredictions',
    `publish-${to.name}`,
    { ...scored, to, prefix: prefix ?? '' },
    { ...publishing(stage), ...(stage.name === undefined ? {} : { name: `${stage.name}-publish` }) },
  );
}

export interface PrecomputeOptions extends StageOptions {
  /** Whose `/predict/ENDPOINT` answers the keys. */
  readonly endpoint: string;
  /** The column, or columns, that name a row; each key once. */
  readonly key: string | readonly string[];
  readonly fileRows?: number;
  readonly threads?: number;
}

/**
 * Scores a dataset, and puts each row's prediction into service by key: `/predict/ENDPOINT` answers `{"keys": […]}` without
 * running the model. The keys before are replaced at once, and come back when the run fails later.
 *
 * @throws INVALID_PARAMETERS where a key stands in several rows; COLUMN_TYPE for a key of numbers that are not whole.
 */
export async function precompute(version: VersionRef | string, dataset: DatasetRef, options: PrecomputeOptions): Promise<PublishedPredictions> {
  const { endpoint, key: named, ...rest } = options;
  const key = typeof named === 'string' ? [named] : [...named];
  return batchPredict(version, dataset, { ...rest, columns: key, to: { kind: 'endpoint', name: endpoint, key } });
}

/** Publishing is Postgres' work: it needs no GPU and no other pool. */
function publishing({ gpu: _gpu, pool: _pool, onOutOfMemory: _memory, ...stage }: StageOptions): StageOptions {
  return { ...stage, cache: false };
}

const withoutUnset = (input: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined));
