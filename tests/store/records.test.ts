import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TriggerEntry } from '../../contracts/retraining.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';
import { triggerEntry } from '../support/trigger-entry.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore({ poolSize: 8 });
});

const newId = (): string => randomBytes(16).toString('hex');
const gateOf = async (more: { approversNeeded?: number; expiresAt?: string } = {}) => {
  const runId = newId();
  await store.approvals.request({
    runId,
    gate: 'production',
    evidence: { auc: 0.7 },
    expiresAt: more.expiresAt ?? null,
    approversNeeded: more.approversNeeded ?? 1,
  });
  return (who: string, decision: 'approve' | 'reject') => store.approvals.decide({ runId, gate: 'production', who, decision, reason: `${who} says so` });
};

describe('a gate', () => {
  it('is approved when as many as are needed approve, each counted once', async () => {
    const decide = await gateOf({ approversNeeded: 2 });
    expect((await decide('ann', 'approve')).status).toBe('pending');
    expect((await decide('ann', 'approve')).decisions).toHaveLength(1);
    const settled = await decide('bob', 'approve');
    expect(settled).toMatchObject({ status: 'approved', evidence: { auc: 0.7 } });
    expect(settled.decisions.map((d) => [d.who, d.decision, d.reason])).toEqual([
      ['ann', 'approve', 'ann says so'],
      ['bob', 'approve', 'bob says so'],
    ]);
    await expect(decide('eve', 'reject')).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('is closed by one rejection, and a decision cannot be turned round', async () => {
    const decide = await gateOf({ approversNeeded: 2 });
    await decide('ann', 'approve');
    await expect(decide('ann', 'reject')).rejects.toMatchObject({ code: 'CONFLICT' });
    expect((await decide('bob', 'reject')).status).toBe('rejected');
  });

  it('counts both of two approvals that come at the same moment', async () => {
    const decide = await gateOf({ approversNeeded: 2 });
    const settled = await Promise.all([decide('ann', 'approve'), decide('bob', 'approve')]);
    expect(settled.map((s) => s.status).sort()).toEqual(['approved', 'pending']);
  });

  it('takes no decision past its time, and is expired once', async () => {
    const decide = await gateOf({ expiresAt: '2020-01-01T00:00:00.000Z' });
    await expect(decide('ann', 'approve')).rejects.toMatchObject({ code: 'GATE_EXPIRED' });
    const runId = newId();
    await expect(store.approvals.expire(runId, 'none')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await store.approvals.request({ runId, gate: 'g', evidence: null, expiresAt: null });
    expect((await store.approvals.expire(runId, 'g')).status).toBe('expired');
    expect((await store.approvals.request({ runId, gate: 'g', evidence: null, expiresAt: null })).status).toBe('expired');
    expect((await store.approvals.list({ runId })).map((a) => a.gate)).toEqual(['g']);
  });
});

it('keeps one row of the retraining ledger a trigger, as it was written last, with the evidence it came with', async () => {
  const put = (revision: number, stated: Partial<TriggerEntry>, evidence?: unknown): Promise<void> =>
    store.retraining.put({
      pipeline: 'p',
      controller: 'c',
      revision,
      entries: [{ entry: triggerEntry(stated), ...(evidence === undefined ? {} : { evidence }) }],
    });
  await put(1, { number: 1 }, { psi: 0.4 });
  await put(2, { number: 2, reason: 'nul \u0000 and a lone \ud800' });
  const timing = { totalMs: 6, waitingMs: 1, trainingMs: 2, gatesMs: 3, rolloutMs: 0 };
  await put(4, { number: 1, fate: 'serving', because: 'm 2 serves at e', workflowId: 'w', timing });
  // an attempt that was given up on comes late
  await put(3, { number: 1, fate: 'running', because: 'new data', workflowId: 'w' });
  const [second, first] = await store.retraining.list({ pipeline: 'p' });
  expect(first).toMatchObject({ number: 1, fate: 'serving', evidence: { psi: 0.4 }, timing });
  expect(second).toMatchObject({ number: 2, fate: 'waiting', evidence: null });
  expect(await store.retraining.list({ pipeline: 'p', before: first?.id ?? 0 })).toEqual([]);
  expect(await store.retraining.list({ workflowId: 'w' })).toHaveLength(1);
  expect(await store.retraining.get('p', 1)).toEqual(first);
  expect([...(await store.retraining.evidence('p', 'c', [1, 2]))]).toEqual([[1, { psi: 0.4 }]]);
  await expect(store.retraining.get('p', 3)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('has one request for an experiment open for a pipeline, and keeps those that were closed', async () => {
  const request = { pipeline: 'p', workflowId: 'p-1', because: 'three in a row', evidence: { triggers: [], runs: [], findings: [] }, tune: null };
  const opened = await store.retraining.openExperiment(request);
  expect(await store.retraining.openExperiment({ ...request, workflowId: 'p-2' })).toEqual(opened);
  expect(await store.retraining.closeExperiment({ pipeline: 'p', by: 'ada', comment: 'more data' })).toMatchObject({ id: opened.id, closedBy: 'ada' });
  expect(await store.retraining.closeExperiment({ pipeline: 'p', by: 'ada', comment: 'again' })).toBeNull();
  // the same setback told twice does not open it again
  expect((await store.retraining.openExperiment(request)).closedAt).not.toBeNull();
  expect((await store.retraining.openExperiment({ ...request, workflowId: 'p-3' })).id).not.toBe(opened.id);
  expect(await store.retraining.experiments({ pipeline: 'p' })).toHaveLength(2);
  expect(await store.retraining.experiments({ open: true })).toHaveLength(1);
});

it('keeps a window of monitoring as it was computed last', async () => {
  const window = { endpoint: 'e', from: '2026-01-01T00:00:00.000Z', to: '2026-01-01T01:00:00.000Z' };
  await store.monitoring.putWindow({ ...window, figures: { psi: 0.1 }, drifted: false });
  await store.monitoring.putWindow({ ...window, figures: { psi: 0.4 }, drifted: true });
  expect(await store.monitoring.listWindows({ endpoint: 'e' })).toMatchObject([{ ...window, figures: { psi: 0.4 }, drifted: true }]);
  await store.monitoring.putMonitor({ endpoint: 'e', config: { every: '1 hour' } });
  await store.monitoring.putMonitor({ endpoint: 'e', config: { every: '2 hours' } });
  expect(await store.monitoring.findMonitor('e')).toMatchObject({ config: { every: '2 hours' } });
  expect(await store.monitoring.listMonitors()).toHaveLength(1);
});

it('lists a build that comes back as the newest, where it came from this time', async () => {
  const build = { id: 'b'.repeat(64), git: { remote: 'r', commit: 'c', clean: true }, pipelines: ['flightDelay'], bundles: { 'workflows.js': 'd'.repeat(64) } };
  await store.builds.put(build);
  await store.builds.put({ ...build, id: 'c'.repeat(64), git: { remote: 'r', commit: 'd', clean: true } });
  expect((await store.builds.list({ limit: 1 })).map(({ id }) => id)).toEqual(['c'.repeat(64)]);
  await store.builds.put({ ...build, git: { remote: 'r', commit: 'e', clean: false } });
  expect(await store.builds.list({ limit: 1 })).toMatchObject([{ id: build.id, gitCommit: 'e', gitClean: false, bundles: build.bundles }]);
});

it('keeps a dataset as it was recorded first', async () => {
  const dataset = { id: 'e'.repeat(64), name: 'flights', rows: 1, columns: [], sizeBytes: 1 };
  await store.datasets.put({ ...dataset, runId: newId(), stage: 'ingest' });
  await store.datasets.put(dataset);
  expect(await store.datasets.list({ name: 'flights' })).toMatchObject([{ id: dataset.id, stage: 'ingest' }]);
  await expect(store.datasets.get('0'.repeat(64))).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
