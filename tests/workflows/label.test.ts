/** Runs that wait for people's labels, on tests/e2e/label-project. */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { DatasetRef } from '../../contracts/references.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import { reconcile } from '../../workers/reconciler.ts';
import { tellAnswered } from '../../workers/label-answers.ts';
import { failureOf, openEnvironment, PATIENCE_MS } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment({ project: fileURLToPath(new URL('../e2e/label-project', import.meta.url)) });
}, 180_000);

const untilWaiting = async (queue: string, waiting = 1): Promise<void> => {
  await vi.waitFor(async () => expect((await env.deps.store.labels.list()).find(({ name }) => name === queue)?.waiting).toBe(waiting), {
    timeout: PATIENCE_MS,
    interval: 100,
  });
};
const answer = async (queue: string, count: number): Promise<void> => {
  for (let n = 0; n < count; n++) {
    const item = await env.deps.store.labels.next(queue, 'ada');
    await env.deps.store.labels.answer(queue, { item: item?.id ?? '', by: 'ada', label: 'name' });
  }
};

describe('a run that waits for labels', () => {
  it('fails at its deadline, and asks only for the rest when it is started again', async () => {
    const run = await env.start('words', { queue: 'late', waitMs: 4_000 });
    await untilWaiting('late');
    await answer('late', 1);
    const report = await failureOf(run);
    expect(report).toMatchObject({ code: 'LABELS_MISSING', message: '1 of 2 rows had no label when the time was over.' });
    await untilWaiting('late', 0);
    const again = await env.start('words', { queue: 'late' });
    await untilWaiting('late');
    expect((await env.deps.store.labels.list()).find(({ name }) => name === 'late')).toMatchObject({ open: 1, settled: 1 });
    await answer('late', 1);
    // as the orchestrator does
    await tellAnswered(env.deps);
    expect(((await again.result()) as unknown as { labelled: DatasetRef }).labelled.rows).toBe(3);
  });

  it('goes on without the labels where it may, and says how many it has', async () => {
    const run = await env.start('words', { queue: 'without', waitMs: 500, then: 'goOn' });
    expect(((await run.result()) as unknown as { labelled: DatasetRef }).labelled.rows).toBe(3);
    const { stages } = await run.progress();
    expect(stages.map(({ name, summary }) => [name, summary])).toContainEqual(['label-people', '0 of 2 rows answered']);
    expect(stages.at(-1)?.summary).toBe('1 had a label, 2 without a label');
  });

  it('leaves no question open when it is terminated', async () => {
    const run = await env.start('words', { queue: 'terminated' });
    await untilWaiting('terminated');
    await run.handle.terminate('a test');
    await reconcile(env.deps);
    await untilWaiting('terminated', 0);
    expect(await env.deps.store.labels.next('terminated', 'ada')).toBeNull();
  });
});
