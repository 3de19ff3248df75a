import { randomBytes } from 'node:crypto';
import { beforeAll, expect, it } from 'vitest';
import { MillraceError } from '../../contracts/errors.ts';
import type { BeginRunInput } from '../../store/runs.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore({ poolSize: 8 });
});

const newId = (): string => randomBytes(16).toString('hex');
const input = (pipeline: string, more: Partial<BeginRunInput> = {}): BeginRunInput => {
  const runId = newId();
  return { runId, workflowId: `w-${runId}`, temporalRunId: 't-1', pipeline, params: { a: 1 }, trigger: { kind: 'cli' }, ...more };
};

it('gives one run to a workflow execution, however often and however many at once begin it', async () => {
  const workflow = { workflowId: 'w-once', temporalRunId: 't-1' };
  const begun = await Promise.all(Array.from({ length: 6 }, () => store.runs.begin(input('once', workflow))));
  expect(new Set(begun.map((b) => b.runId)).size).toBe(1);
  expect(await store.runs.findByWorkflow('w-once')).toMatchObject({ id: begun[0]!.runId, status: 'running', params: { a: 1 }, trigger: { kind: 'cli' } });
  const next = await store.runs.begin(input('once', { workflowId: 'w-once', temporalRunId: 't-2' }));
  expect(next.runId).not.toBe(begun[0]!.runId);
  expect((await store.runs.findByWorkflow('w-once'))?.id).toBe(next.runId);
  expect((await store.runs.findByWorkflow('w-once', 't-1'))?.id).toBe(begun[0]!.runId);
});

it('lets no more runs of a pipeline go at once than its limit, the oldest first', async () => {
  const inputs = Array.from({ length: 5 }, () => input('limited', { maxConcurrent: 2 }));
  const begun = await Promise.all(inputs.map((one) => store.runs.begin(one)));
  expect(begun.filter((b) => b.status === 'running')).toHaveLength(2);

  const waiting = [...(await store.runs.list({ pipeline: 'limited', status: 'waiting' }))].reverse();
  const again = (id: string) => store.runs.begin(inputs.find((one) => one.runId === id)!);
  await store.runs.end({ runId: begun.find((b) => b.status === 'running')!.runId, status: 'completed' });
  expect((await again(waiting[1]!.id)).status).toBe('waiting');
  expect((await again(waiting[0]!.id)).status).toBe('running');
  expect((await again(waiting[1]!.id)).status).toBe('waiting');
  // Another pipeline is not held up.
  expect((await store.runs.begin(input('free', { maxConcurrent: 1 }))).status).toBe('running');
});

it('leaves a run as it ended, unless it is told to write the end anew', async () => {
  const { runId } = await store.runs.begin(input('ends'));
  expect(await store.runs.end({ runId, status: 'failed', error: new MillraceError('SOURCE_EMPTY').report() })).toEqual({ changed: true, status: 'failed' });
  expect(await store.runs.end({ runId, status: 'terminated', ifOpen: true })).toEqual({ changed: false, status: 'failed' });
  expect(await store.runs.get(runId)).toMatchObject({ status: 'failed', error: { code: 'SOURCE_EMPTY' } });
  expect(await store.runs.end({ runId, status: 'cancelled', ifOpen: false })).toEqual({ changed: true, status: 'cancelled' });
  await expect(store.runs.end({ runId: newId(), status: 'failed' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('lists runs page by page, newest first, and the open ones for the reconciler', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push((await store.runs.begin(input('pages'))).runId);
  const first = await store.runs.list({ pipeline: 'pages', limit: 2 });
  const second = await store.runs.list({ pipeline: 'pages', limit: 2, before: first[1]!.seq });
  expect([...first, ...second].map((run) => run.id)).toEqual(ids.slice(1).reverse());
  await store.runs.end({ runId: ids[0]!, status: 'completed' });
  const open = (await store.runs.open()).filter((run) => run.pipeline === 'pages').map((run) => run.id);
  expect(open).toEqual(ids.slice(1));
  expect((await store.runs.counts()).find((c) => c.pipeline === 'pages' && c.status === 'running')?.runs).toBe(4);
});

it('keeps tags, and parameters that do not change once they are logged', async () => {
  const { runId } = await store.runs.begin(input('tags'));
  await store.runs.setTag(runId, 'owner', 'ops');
  await store.runs.setTag(runId, 'owner', 'science');
  await store.runs.logParam(runId, 'lr', '0.1');
  await store.runs.logParam(runId, 'lr', '0.1');
  await expect(store.runs.logParam(runId, 'lr', '0.2')).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await store.runs.tags(runId)).toMatchObject({ owner: 'science' });
  // what the run was started with is among them
  expect(await store.runs.params(runId)).toMatchObject({ a: '1', lr: '0.1' });
});

it('keeps the history of a metric by step', async () => {
  const { runId } = await store.runs.begin(input('metrics'));
  await store.metrics.log({ runId, points: [2, 0, 1].map((step) => ({ key: 'loss', value: 1 / (step + 1), step })) });
  await store.metrics.log({ runId, points: [{ key: 'nan', value: Number.NaN, at: '2026-01-02T03:04:05.678Z' }] });
  expect((await store.metrics.history({ runId, key: 'loss' })).map((m) => m.step)).toEqual([0, 1, 2]);
  expect((await store.metrics.latest(runId)).map((m) => [m.key, m.value])).toEqual([
    ['loss', 1 / 3],
    ['nan', Number.NaN],
  ]);
  expect((await store.metrics.history({ runId, key: 'nan' }))[0]!.at).toBe('2026-01-02T03:04:05.678Z');
});

it('answers a text that Postgres cannot store with an error of the table', async () => {
  await expect(store.runs.begin(input('nul', { params: { text: '\u0000' } }))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
});
