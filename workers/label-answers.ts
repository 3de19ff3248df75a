import { appendFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { WorkflowNotFoundError } from '@temporalio/client';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import type { LabelsAnswered } from '../contracts/labels.ts';
import type { FeedbackRecord } from '../contracts/routes.ts';

type Deps = Pick<ActivityDependencies, 'store' | 'client' | 'config'>;

/** Wakes each run whose questions are all answered. One that misses it looks by itself, if later. */
export async function tellAnswered({ store, client }: Deps): Promise<void> {
  for (const { id, workflowId } of await store.labels.untold()) {
    const signal: LabelsAnswered = { request: id };
    if (workflowId !== null) {
      await client.workflow
        .getHandle(workflowId)
        .signal('labelsAnswered', signal)
        .catch((error: unknown) => {
          // it has ended: the reconciler closes what it asked
          if (!(error instanceof WorkflowNotFoundError)) throw error;
        });
    }
    await store.labels.told(id);
  }
}

/**
 * Writes the labels of flagged predictions beside those that came through `/feedback`, so that whoever joins predictions
 * with labels finds them. A label may be written twice: of two lines for one row the last counts, and they are alike.
 */
export async function feedBack({ store, config }: Deps): Promise<number> {
  const labels = await store.labels.unfed();
  const lines = new Map<string, string>();
  for (const { flagged, label, settledAt } of labels) {
    const record: FeedbackRecord = { requestId: flagged.requestId, row: flagged.row, label, at: settledAt };
    lines.set(flagged.endpoint, `${lines.get(flagged.endpoint) ?? ''}${JSON.stringify(record)}\n`);
  }
  for (const [endpoint, text] of lines) {
    const folder = join(config.home, 'feedback', endpoint);
    await mkdir(folder, { recursive: true });
    await appendFile(join(folder, `${new Date().toISOString().slice(0, 13)}-labels.jsonl`), text);
  }
  await store.labels.fedBack(labels.map(({ id }) => id));
  return labels.length;
}
