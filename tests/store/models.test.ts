import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { MillraceError } from '../../contracts/errors.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore({ poolSize: 8 });
});

const newId = (): string => randomBytes(16).toString('hex');
const predictor = 'a'.repeat(64);

interface Attempt {
  readonly runId: string;
  readonly stage: string;
  readonly token: number;
}
async function attempt(of?: { runId: string }): Promise<Attempt> {
  const runId = of?.runId ?? newId();
  if (of === undefined) await store.runs.begin({ runId, workflowId: `w-${runId}`, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  const { token } = await store.stages.begin({ runId, name: 'register', kind: 'register', ordinal: 6, attempt: 1, fingerprint: null, useCache: false });
  return { runId, stage: 'register', token };
}
const register = (model: string, by?: Attempt) =>
  store.models.register({ model, predictor, metrics: { auc: 0.7 }, evaluation: null, ...(by === undefined ? {} : { by }) });
const champion = (model: string, version: number, more: { expectedEpoch?: number; runId?: string } = {}) =>
  store.models.moveAlias({ model, alias: 'champion', version, ...more });

describe('registering', () => {
  it('gives one version to a run and stage, however often and however many at once register it', async () => {
    const by = await attempt();
    const made = await Promise.all(Array.from({ length: 5 }, () => register('once', by)));
    expect(made.map((m) => m.version)).toEqual([1, 1, 1, 1, 1]);
    expect(made.filter((m) => m.created)).toHaveLength(1);
    expect(await store.models.versions({ model: 'once' })).toHaveLength(1);
    expect(await store.models.alias('once', 'candidate')).toMatchObject({ version: 1, epoch: 1, movedByRun: by.runId });
    expect((await store.undos.pending(by.runId)).map((u) => u.kind)).toEqual(['alias', 'version']);
  });

  it('counts versions without a gap or a double when many runs register at once', async () => {
    const attempts = await Promise.all(Array.from({ length: 8 }, () => attempt()));
    const made = await Promise.all(attempts.map((by) => register('many', by)));
    expect(made.map((m) => m.version).sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await store.models.alias('many', 'candidate')).toMatchObject({ epoch: 8 });
  });

  it('is refused to an attempt that a newer one has overtaken, and leaves nothing', async () => {
    const old = await attempt();
    await attempt(old);
    await expect(register('fenced', old)).rejects.toMatchObject({ code: 'FENCED' });
    expect(await store.models.find('fenced')).toBeNull();
    expect(await store.undos.pending(old.runId)).toEqual([]);
  });

  it('needs no run when a person registers a file', async () => {
    expect(await register('bare')).toEqual({ version: 1, created: true });
    expect(await register('bare')).toEqual({ version: 2, created: true });
  });
});

describe('an alias', () => {
  it('moves only from the epoch that the mover saw, and keeps every move', async () => {
    await register('aliases');
    await register('aliases');
    expect(await champion('aliases', 1, { expectedEpoch: 0 })).toEqual({ epoch: 1, previousVersion: null });
    await expect(champion('aliases', 2, { expectedEpoch: 0 })).rejects.toMatchObject({ code: 'FENCED' });
    expect(await champion('aliases', 2, { expectedEpoch: 1 })).toEqual({ epoch: 2, previousVersion: 1 });
    expect(await store.models.champion('aliases')).toMatchObject({ version: 2, predictor });
    expect((await store.models.aliasHistory('aliases', 'champion')).map((h) => [h.epoch, h.version])).toEqual([
      [2, 2],
      [1, 1],
    ]);
  });

  it('answers a move that is repeated with what it did the first time', async () => {
    await register('repeat');
    const { runId } = await attempt();
    const first = await champion('repeat', 1, { expectedEpoch: 0, runId });
    expect(await champion('repeat', 1, { expectedEpoch: 0, runId })).toEqual(first);
    expect(await store.models.aliasHistory('repeat', 'champion')).toHaveLength(1);
  });

  it('lets one of many movers through when all saw the same epoch', async () => {
    for (let i = 0; i < 4; i++) await register('race');
    const results = await Promise.allSettled([1, 2, 3, 4].map((version) => champion('race', version, { expectedEpoch: 0 })));
    expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(1);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'FENCED' });
  });

  it('cannot be moved for a run that has ended, nor to a version that is not there', async () => {
    await register('ended');
    const { runId } = await attempt();
    await store.runs.end({ runId, status: 'terminated' });
    await expect(champion('ended', 1, { runId })).rejects.toMatchObject({ code: 'FENCED' });
    await expect(champion('ended', 7)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('undoing a run', () => {
  it('marks its version as rolled back and moves the aliases back, the last published first', async () => {
    await register('undo');
    await champion('undo', 1);
    const by = await attempt();
    await register('undo', by);
    await champion('undo', 2, { runId: by.runId });
    const { done, failed } = await store.undos.perform(by.runId, { reason: 'deploy failed' });
    expect(failed).toEqual([]);
    expect(done.map((u) => [u.kind, u.outcome])).toEqual([
      ['alias', 'champion is version 1 again'],
      ['alias', 'candidate is version 1 again'],
      ['version', 'version 2 of undo is marked as rolled back'],
    ]);
    expect(await store.models.champion('undo')).toMatchObject({ version: 1 });
    expect(await store.models.version('undo', 2)).toMatchObject({ status: 'rolled_back', statusReason: 'deploy failed' });
    expect((await store.undos.perform(by.runId)).done).toEqual([]);
    expect((await store.models.alias('undo', 'champion'))?.epoch).toBe(3);
  });

  it('leaves a newer move alone, and skips rolled back versions when that one is undone too', async () => {
    await register('newer');
    const [a, b] = [await attempt(), await attempt()];
    await register('newer', a);
    await register('newer', b);
    const first = await store.undos.perform(a.runId);
    expect(first.done.map((u) => u.outcome)).toEqual(['candidate was moved again since; the newer move stands', 'version 2 of newer is marked as rolled back']);
    expect(await store.models.alias('newer', 'candidate')).toMatchObject({ version: 3 });
    await store.undos.perform(b.runId);
    expect(await store.models.alias('newer', 'candidate')).toMatchObject({ version: 1 });
  });

  it('leaves an alias naming nothing when there was nothing before, with an epoch that goes on', async () => {
    const by = await attempt();
    await register('first', by);
    await store.undos.perform(by.runId);
    expect(await store.models.alias('first', 'candidate')).toMatchObject({ version: null, epoch: 2 });
    expect((await register('first')).version).toBe(2);
    expect(await store.models.alias('first', 'candidate')).toMatchObject({ version: 2, epoch: 3 });
  });

  it('records what could not be undone, goes on with the rest, and tries again the next time', async () => {
    const by = await attempt();
    await register('handlers', by);
    await store.undos.add({ runId: by.runId, stage: 'deploy', kind: 'route', key: 'e/1', payload: { endpoint: 'e' } });
    await store.undos.add({ runId: by.runId, stage: 'deploy', kind: 'unknown', key: 'x', payload: {} });
    await store.runs.end({ runId: by.runId, status: 'failed' });
    const first = await store.undos.perform(by.runId, { handlers: { route: () => Promise.reject(new MillraceError('SERVER_UNAVAILABLE', 'endpoint away')) } });
    expect(first.failed.map((u) => [u.kind, u.error?.code])).toEqual([
      ['unknown', 'UNDO_FAILED'],
      ['route', 'SERVER_UNAVAILABLE'],
    ]);
    expect(first.done.map((u) => u.kind)).toEqual(['alias', 'version']);
    expect(await store.undos.owing()).toContain(by.runId);

    const handlers = { route: () => Promise.resolve('traffic is as before'), unknown: () => Promise.resolve('gone') };
    const second = await store.undos.perform(by.runId, { handlers });
    expect(second.done.map((u) => u.outcome)).toEqual(['gone', 'traffic is as before']);
    expect(await store.undos.owing()).not.toContain(by.runId);
  });

  it('undoes one stage alone when asked', async () => {
    const by = await attempt();
    await register('stage-only', by);
    await store.undos.add({ runId: by.runId, stage: 'deploy', kind: 'route', key: 'e/2', payload: {} });
    const { done } = await store.undos.perform(by.runId, { stage: 'deploy', handlers: { route: () => Promise.resolve('ok') } });
    expect(done).toHaveLength(1);
    expect((await store.undos.pending(by.runId)).map((u) => u.kind)).toEqual(['alias', 'version']);
  });

  it('is done once when two perform it at the same time', async () => {
    const by = await attempt();
    await register('twice', by);
    await Promise.all([store.undos.perform(by.runId), store.undos.perform(by.runId)]);
    expect(await store.models.alias('twice', 'candidate')).toMatchObject({ version: null, epoch: 2 });
  });
});

describe('the model card', () => {
  it('is kept once: what an attempt that is repeated makes anew changes nothing', async () => {
    const { version } = await register('carded', await attempt());
    expect((await store.models.version('carded', version)).card).toBeNull();
    expect(await store.models.setCard({ model: 'carded', version, card: 'b'.repeat(64) })).toBe('b'.repeat(64));
    expect(await store.models.setCard({ model: 'carded', version, card: 'c'.repeat(64) })).toBe('b'.repeat(64));
    expect((await store.models.version('carded', version)).card).toBe('b'.repeat(64));
    await expect(store.models.setCard({ model: 'carded', version: 9, card: 'b'.repeat(64) })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a version by its name', () => {
  it('is that of a number or an alias; without a name the champion, or else the newest', async () => {
    await register('named');
    await register('named');
    const at = async (name?: string): Promise<number> => (await store.models.versionNamed('named', name)).version;
    expect([await at(), await at('1'), await at('candidate')]).toEqual([2, 1, 2]);
    await champion('named', 1);
    expect([await at(), await at('champion')]).toEqual([1, 1]);
    await expect(at('3')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(at('staging')).rejects.toMatchObject({ code: 'NOT_FOUND', fix: 'Give a number from 1 to 2, or an alias: candidate, champion.' });
    await expect(store.models.versionNamed('nameless')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
