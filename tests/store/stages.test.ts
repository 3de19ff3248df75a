import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { MillraceError } from '../../contracts/errors.ts';
import type { BeginStageInput } from '../../store/stages.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore();
});

const newId = (): string => randomBytes(16).toString('hex');
async function newRun(pipeline = 'flightDelay'): Promise<string> {
  const runId = newId();
  await store.runs.begin({ runId, workflowId: `w-${runId}`, temporalRunId: 't', pipeline, params: {}, trigger: { kind: 'manual' } });
  return runId;
}
const begin = (runId: string, more: Partial<BeginStageInput> = {}) =>
  store.stages.begin({ runId, name: 'train', kind: 'train', ordinal: 3, attempt: 1, fingerprint: null, useCache: true, pool: 'cpu', worker: 'w1', ...more });

describe('a stage', () => {
  it('is completed with its metrics, dataset, artifact and undo in one transaction', async () => {
    const runId = await newRun();
    const { token, hit, checkpoint } = await begin(runId, { input: { trees: 10 } });
    expect(hit).toBeNull();
    expect(checkpoint).toBeNull();
    const dataset = {
      id: 'a'.repeat(64),
      name: 'flights',
      rows: 3,
      columns: [{ name: 'x', type: 'number' as const }],
      sizeBytes: 12,
      source: { path: 'x.csv' },
    };
    await store.stages.complete({
      runId,
      name: 'train',
      token,
      output: { kind: 'candidate' },
      usage: { cpuSeconds: 1.5, peakMib: 64 },
      device: 'cpu',
      metrics: [
        { key: 'auc', value: 0.75 },
        { key: 'loss', value: Number.NaN, step: 2 },
        { key: 'worst', value: Number.NEGATIVE_INFINITY },
      ],
      datasets: [dataset],
      artifacts: [{ sha256: 'b'.repeat(64), sizeBytes: 7, kind: 'onnx' }],
      undos: [{ kind: 'table', key: 'holidays', payload: { table: 'holidays' } }],
    });
    const [stage] = await store.stages.list(runId);
    expect(stage).toMatchObject({
      name: 'train',
      status: 'completed',
      output: { kind: 'candidate' },
      input: { trees: 10 },
      cpuSeconds: 1.5,
      peakMib: 64,
      device: 'cpu',
    });
    expect(stage!.endedAt).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
    const metrics = await store.metrics.latest(runId);
    expect(metrics.map((m) => [m.key, m.value, m.step])).toEqual([
      ['auc', 0.75, 0],
      ['loss', Number.NaN, 2],
      ['worst', Number.NEGATIVE_INFINITY, 0],
    ]);
    expect(await store.datasets.get(dataset.id)).toMatchObject({ ...dataset, runId, stage: 'train' });
    expect(await store.undos.pending(runId)).toMatchObject([{ kind: 'table', stage: 'train' }]);
  });

  it('refuses every write of an attempt that a newer one has overtaken', async () => {
    const runId = await newRun();
    const old = await begin(runId);
    const newer = await begin(runId, { attempt: 2 });
    expect(newer.token).toBeGreaterThan(old.token);
    const at = { runId, name: 'train', token: old.token };
    await expect(store.stages.complete({ ...at, output: 'old' })).rejects.toMatchObject({ code: 'FENCED' });
    await expect(store.stages.commitCheckpoint({ ...at, sha: 'c'.repeat(64), step: 1 })).rejects.toMatchObject({ code: 'FENCED' });
    await expect(store.stages.fail({ ...at, error: new MillraceError('INTERNAL').report() })).rejects.toMatchObject({ code: 'FENCED' });
    await store.stages.complete({ runId, name: 'train', token: newer.token, output: 'new' });
    expect(await store.stages.find(runId, 'train')).toMatchObject({ output: 'new', attempts: 2 });
  });

  it('refuses an attempt that comes back after its run has ended', async () => {
    const runId = await newRun();
    const { token } = await begin(runId);
    await store.runs.end({ runId, status: 'terminated' });
    await expect(store.stages.complete({ runId, name: 'train', token, output: 1 })).rejects.toMatchObject({ code: 'FENCED' });
    await expect(begin(runId)).rejects.toMatchObject({ code: 'FENCED' });
    expect(await store.stages.find(runId, 'train')).toMatchObject({ status: 'cancelled' });
  });

  it('fails in a way that is tried again when its begin was lost with the database', async () => {
    const runId = await newRun();
    const error: unknown = await store.stages.complete({ runId, name: 'never', token: 5, output: 1 }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'INTERNAL', retryable: true });
  });

  it('gives its output back when it is begun again after it completed, and takes no new token', async () => {
    const runId = await newRun();
    const first = await begin(runId, { fingerprint: 'f-done' });
    await store.stages.complete({ runId, name: 'train', token: first.token, output: { n: 1 } });
    const again = await begin(runId, { fingerprint: 'f-done', attempt: 2 });
    expect(again).toMatchObject({ completedOutput: { n: 1 }, token: first.token });
    await expect(store.stages.complete({ runId, name: 'train', token: first.token, output: { n: 1 } })).resolves.toBeUndefined();
    expect(await begin(runId, { fingerprint: 'f-other', attempt: 1 })).not.toHaveProperty('completedOutput');
  });

  it('goes on from the checkpoint of an earlier attempt, but not from that of other work', async () => {
    const runId = await newRun();
    const first = await begin(runId, { fingerprint: 'f-check' });
    await store.stages.commitCheckpoint({ runId, name: 'train', token: first.token, sha: 'd'.repeat(64), step: 40 });
    const second = await begin(runId, { fingerprint: 'f-check', attempt: 2 });
    expect(second.checkpoint).toEqual({ sha: 'd'.repeat(64), step: 40 });
    const other = await begin(runId, { fingerprint: 'f-check-other', attempt: 3 });
    expect(other.checkpoint).toBeNull();
  });
});

describe('the cache', () => {
  it('offers the result of another run under the same fingerprint, and never a result that was itself taken over', async () => {
    const [a, b, c] = [await newRun('cached'), await newRun('cached'), await newRun('cached')];
    const first = await begin(a, { fingerprint: 'f-1', fingerprintParts: { code: '1' } });
    expect(first.missReason).toEqual({ kind: 'first' });
    await store.stages.complete({ runId: a, name: 'train', token: first.token, output: { model: 1 } });

    const second = await begin(b, { fingerprint: 'f-1', fingerprintParts: { code: '1' } });
    expect(second.hit).toEqual({ fromRunId: a, fromStage: 'train', output: { model: 1 } });
    await store.stages.complete({ runId: b, name: 'train', token: second.token, output: { model: 1 }, cachedFrom: { runId: a, stage: 'train' } });

    const third = await begin(c, { fingerprint: 'f-1', fingerprintParts: { code: '1' } });
    expect(third.hit?.fromRunId).toBe(a);
    expect(await store.stages.find(b, 'train')).toMatchObject({ cachedFrom: { runId: a, stage: 'train' }, missReason: null });
  });

  it('is not asked when the caller says so', async () => {
    const [a, b] = [await newRun(), await newRun()];
    const first = await begin(a, { fingerprint: 'f-2' });
    await store.stages.complete({ runId: a, name: 'train', token: first.token, output: 1 });
    const second = await begin(b, { fingerprint: 'f-2', useCache: false });
    expect(second.hit).toBeNull();
    expect(second.missReason).toEqual({ kind: 'notAsked' });
  });

  it('says of a miss which parts of the fingerprint differ from the nearest earlier result', async () => {
    const [a, b] = [await newRun('spam'), await newRun('spam')];
    const parts = { code: 'c1', inputs: ['x'], parameters: { trees: 10, depth: 3 } };
    const first = await begin(a, { fingerprint: 'f-3', fingerprintParts: parts });
    await store.stages.complete({ runId: a, name: 'train', token: first.token, output: 1 });
    const second = await begin(b, { fingerprint: 'f-4', fingerprintParts: { code: 'c2', inputs: ['x'], parameters: { trees: 20, depth: 3, seed: 1 } } });
    expect(second.missReason).toEqual({ kind: 'differs', fromRunId: a, parts: ['code', 'parameters.seed', 'parameters.trees'] });
    expect(await store.stages.find(b, 'train')).toMatchObject({ missReason: { kind: 'differs' } });
  });

  it('does not offer a stage that failed', async () => {
    const [a, b] = [await newRun(), await newRun()];
    const first = await begin(a, { fingerprint: 'f-5' });
    await store.stages.fail({ runId: a, name: 'train', token: first.token, error: new MillraceError('TARGET_ONE_CLASS', 'bad \u0000 text \ud800').report() });
    expect((await begin(b, { fingerprint: 'f-5' })).hit).toBeNull();
    expect((await store.stages.find(a, 'train'))?.error).toMatchObject({ code: 'TARGET_ONE_CLASS', message: 'bad \uFFFD text \uFFFD' });
  });
});

it('refuses a stage of a run that is not there', async () => {
  await expect(begin(newId())).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('has no attempt left running when a run ends while its stages begin and complete', async () => {
  const runId = await newRun('ending');
  const work = Array.from({ length: 12 }, async (_, i) => {
    const { token } = await begin(runId, { name: `s${i}`, ordinal: i });
    await store.stages.complete({ runId, name: `s${i}`, token, output: i, metrics: [{ key: 'm', value: i }] });
  });
  const results = await Promise.allSettled([...work, store.runs.end({ runId, status: 'cancelled' })]);
  for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'FENCED' });
  expect(results.at(-1)).toMatchObject({ status: 'fulfilled' });
  expect((await store.stages.list(runId)).map((stage) => stage.status)).not.toContain('running');
});
