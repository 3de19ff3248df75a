import { workflowInfo } from '@temporalio/workflow';
import type { z } from 'zod';
import type { DatasetRef, SplitRef } from '../contracts/references.ts';
import { MEMO_TRIGGER, type Trigger, TriggerSchema } from '../contracts/run.ts';
import type { WindowRuleSchema } from '../contracts/training-window.ts';
import { type Duration, durationMs } from './duration.ts';
import { runStage, type StageOptions } from './run.ts';

/** Time before the newest row, or a number of rows. Of a column of numbers, time is in the column's own unit. */
export type WindowLength = Duration | { readonly rows: number };

export type TrainingWindowRule =
  | { readonly rule: 'all' }
  | { readonly rule: 'sliding'; readonly column: string; readonly length: WindowLength }
  | {
      readonly rule: 'sinceChange';
      readonly column: string;
      /** UTC ISO. Default: what the request for this retraining says; of several the latest. Where none is known, all rows. */
      readonly changePoint?: string;
      /** Where fewer rows follow it, the newest so many instead. Default 1. */
      readonly leastRows?: number;
    }
  | {
      readonly rule: 'weighted';
      readonly column: string;
      /** A row so much older than the newest counts half. */
      readonly halfLife: WindowLength;
      /** Where the weights are put, for `train({ weight })`. Default `weight`. */
      readonly weightColumn?: string;
      /** Rows of a smaller weight are left out. Default 0: none. */
      readonly leastWeight?: number;
    };

/**
 * The rows that are trained on, as a snapshot of its own: all, the newest, those since a change, or all with weights that
 * fade with age. Counted back from the newest row, so that the same data give the same rows. Given the parts of a split, the
 * training part alone is cut.
 *
 * @throws SOURCE_EMPTY where no row is in the window; COLUMN_MISSING, COLUMN_TYPE, INVALID_PARAMETERS.
 */
export function trainingWindow(parts: SplitRef, rule: TrainingWindowRule, options?: StageOptions): Promise<SplitRef>;
export function trainingWindow(dataset: DatasetRef, rule: TrainingWindowRule, options?: StageOptions): Promise<DatasetRef>;
export async function trainingWindow(data: DatasetRef | SplitRef, rule: TrainingWindowRule, options?: StageOptions): Promise<DatasetRef | SplitRef> {
  const dataset = 'kind' in data ? data : data.train;
  const window = await runStage<DatasetRef>('trainingWindow', 'training-window', { dataset, rule: resolved(rule) }, options);
  return 'kind' in data ? window : { ...data, train: window };
}

/** Why this run was started; of a retraining, with each request and its evidence. */
export function runTrigger(): Trigger {
  const given = TriggerSchema.safeParse(workflowInfo().memo?.[MEMO_TRIGGER]);
  return given.success ? given.data : { kind: 'manual' };
}

function resolved(rule: TrainingWindowRule): z.input<typeof WindowRuleSchema> {
  const length = (given: WindowLength) => (typeof given === 'object' ? { rows: given.rows } : { ms: durationMs(given) });
  switch (rule.rule) {
    case 'all':
      return rule;
    case 'sliding':
      return { ...rule, length: length(rule.length) };
    case 'sinceChange':
      return { ...rule, changePoint: rule.changePoint ?? changePointOf(runTrigger()) };
    case 'weighted':
      return { ...rule, halfLife: length(rule.halfLife) };
  }
}

/** The latest change point that the requests name; null where none does. */
function changePointOf({ requests = [] }: Trigger): string | null {
  const named = requests.flatMap(({ evidence }) => {
    const { changePoint } = (evidence !== null && typeof evidence === 'object' ? evidence : {}) as { readonly changePoint?: unknown };
    return typeof changePoint === 'string' && changePoint !== '' ? [changePoint] : [];
  });
  return named.sort().at(-1) ?? null;
}
