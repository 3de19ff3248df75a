import type { DatasetRef } from '../contracts/references.ts';
import { rename, type RowTransform } from '../contracts/row-transforms.ts';
import { predictions } from '../contracts/source.ts';
import { reportOf } from './failure.ts';
import type { StageOptions } from './run.ts';
import { ingest } from './stages.ts';
import { trainingWindow, type WindowLength } from './training-window.ts';

/**
 * The newest labelled predictions of an endpoint as rows to judge by: a challenger and the champion alike, on what came
 * last. The label has the target's name. They are no training rows of either where what is trained on ends before them.
 *
 * @throws SOURCE_EMPTY where nothing is labelled yet and no `otherwise` is given.
 */
export async function newestLabelled(
  endpoint: string,
  input: {
    /** The column that is learnt. */
    readonly target: string;
    /** So many of the newest, or so much time back from the newest one. Default 1,000 rows. */
    readonly length?: WindowLength;
    /** What the pipeline's ingest does to raw rows, where it does something. */
    readonly transforms?: readonly RowTransform[];
    /** Where nothing is labelled yet, as before the first deployment. */
    readonly otherwise?: DatasetRef;
  },
  options?: StageOptions,
): Promise<DatasetRef> {
  const { target, length = { rows: 1_000 }, transforms = [], otherwise } = input;
  let labelled: DatasetRef;
  try {
    const renamed = [rename('label', target), ...transforms];
    labelled = await ingest({ source: predictions(endpoint, { labelled: true }), name: `${endpoint}-labelled`, transforms: renamed }, options);
  } catch (error) {
    if (otherwise !== undefined && reportOf(error).code === 'SOURCE_EMPTY') return otherwise;
    throw error;
  }
  return trainingWindow(labelled, { rule: 'sliding', column: 'at', length });
}
