import { MillraceError } from '../contracts/errors.ts';
import type { RunRecord } from '../store/runs.ts';
import type { Store } from '../store/store.ts';

const FULL_ID = /^[0-9a-f]{32}$/;
const PREFIX = /^[0-9a-f]{6,31}$/;

/**
 * A run by its id, the first six or more digits of it, or its workflow id (then its newest execution).
 *
 * @throws NOT_FOUND; INVALID_REQUEST listing the runs when a shortened id fits several.
 */
export async function findRun(store: Store, text: string): Promise<RunRecord> {
  if (FULL_ID.test(text)) return store.runs.get(text);
  const ofWorkflow = await store.runs.findByWorkflow(text);
  if (ofWorkflow !== null) return ofWorkflow;
  if (PREFIX.test(text)) {
    const fitting = await store.runs.findByPrefix(text);
    const [only, another] = fitting;
    if (only !== undefined && another === undefined) return only;
    if (another !== undefined) {
      throw new MillraceError('INVALID_REQUEST', `${text} fits ${fitting.length} runs.`, {
        problems: fitting.slice(0, 20).map((run) => ({ path: run.id, message: `${run.pipeline}, ${run.status}, ${run.createdAt}` })),
        fix: 'Give more digits.',
      });
    }
  }
  throw new MillraceError('NOT_FOUND', `There is no run ${text}.`, {
    fix: 'Give a run id, six or more digits of its beginning, or a workflow id; see `millrace runs list`.',
  });
}
