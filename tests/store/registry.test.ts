import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RegistrySearch } from '../../store/registry.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore();
});

const source = { source: 'mlflow-artifacts:/1/r/artifacts/model', folder: '1/r/artifacts/model', tags: {} };
const all: RegistrySearch = { conditions: [], order: [{ by: 'name', descending: false }], limit: 100, offset: 0 };

/** A version that an endpoint serves. */
async function serve(model: string, version: number): Promise<string> {
  const endpoint = `${model}-endpoint`;
  const rolloutId = randomBytes(16).toString('hex');
  await store.rollouts.create({ id: rolloutId, endpoint, model, version, strategy: {} });
  await store.rollouts.finish({ id: rolloutId, status: 'completed' });
  const champion = { model, version, predictor: 'a'.repeat(64) };
  await store.endpoints.setRoute({ route: { endpoint, epoch: 1, champion, challenger: null, log: false }, expectedEpoch: 0, rolloutId });
  return endpoint;
}

describe('the registry', () => {
  it('gives two clients that register at once two numbers, and one of two that make a name at once the refusal', async () => {
    const made = await Promise.allSettled(Array.from({ length: 8 }, () => store.registry.createModel({ name: 'race', tags: {} })));
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const one of made) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'CONFLICT' });
    const versions = await Promise.all(Array.from({ length: 12 }, () => store.registry.createVersion({ model: 'race', ...source })));
    expect(versions.map(({ version }) => version).sort((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
  });

  it('moves an alias with its next epoch, whoever moves it', async () => {
    await store.registry.createModel({ name: 'moved', tags: {} });
    for (let i = 0; i < 2; i++) await store.registry.createVersion({ model: 'moved', ...source });
    await store.registry.setAlias('moved', 'champion', 1);
    await store.registry.setAlias('moved', 'champion', 1);
    expect(await store.models.alias('moved', 'champion')).toMatchObject({ version: 1, epoch: 1 });
    await store.registry.setAlias('moved', 'champion', 2);
    await expect(store.models.moveAlias({ model: 'moved', alias: 'champion', version: 1, expectedEpoch: 1 })).rejects.toMatchObject({ code: 'FENCED' });
    await store.registry.setAlias('moved', 'champion', null);
    expect(await store.models.alias('moved', 'champion')).toMatchObject({ version: null, epoch: 3 });
    expect(await store.registry.versionByAlias('moved', 'champion')).toBeNull();
    expect((await store.models.aliasHistory('moved', 'champion')).map(({ epoch, version }) => [epoch, version])).toEqual([
      [3, null],
      [2, 2],
      [1, 1],
    ]);
  });

  it('deletes a version with its aliases, never its number', async () => {
    await store.registry.createModel({ name: 'deleted', tags: {} });
    for (let i = 0; i < 2; i++) await store.registry.createVersion({ model: 'deleted', ...source });
    await store.registry.setAlias('deleted', 'best', 2);
    await store.registry.deleteVersion('deleted', 2);
    await expect(store.registry.version('deleted', 2)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(store.models.version('deleted', 2)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect((await store.models.versionNamed('deleted')).version).toBe(1);
    expect((await store.registry.model('deleted')).aliases).toEqual([]);
    expect((await store.registry.createVersion({ model: 'deleted', ...source })).version).toBe(3);
    await store.registry.deleteModel('deleted');
    expect(await store.models.find('deleted')).toBeNull();
    await expect(store.registry.createVersion({ model: 'deleted', ...source })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const again = await store.registry.createModel({ name: 'deleted', description: 'anew', tags: { a: 'b' } });
    expect(again).toMatchObject({ description: 'anew', tags: { a: 'b' }, aliases: [], latest: [] });
    expect((await store.registry.createVersion({ model: 'deleted', ...source })).version).toBe(4);
  });

  it('refuses to delete or to rename what an endpoint serves, and says which', async () => {
    await store.registry.createModel({ name: 'served', tags: {} });
    for (let i = 0; i < 2; i++) await store.registry.createVersion({ model: 'served', ...source });
    const endpoint = await serve('served', 1);
    for (const work of [
      () => store.registry.deleteVersion('served', 1),
      () => store.registry.deleteModel('served'),
      () => store.registry.renameModel('served', 'other'),
    ])
      await expect(work()).rejects.toMatchObject({ code: 'MODEL_IN_USE', message: expect.stringContaining(endpoint) as string });
    await store.registry.deleteVersion('served', 2);
    expect((await store.registry.model('served')).latest.map(({ version }) => version)).toEqual([1]);
  });

  it('renames a model with its versions, aliases and their history', async () => {
    await store.registry.createModel({ name: 'old name', tags: {} });
    await store.registry.createVersion({ model: 'old name', ...source });
    await store.registry.setAlias('old name', 'best', 1);
    await store.registry.setAlias('old name', 'none', 1);
    await store.registry.setAlias('old name', 'none', null);
    await expect(store.registry.renameModel('old name', 'moved')).rejects.toMatchObject({ code: 'CONFLICT' });
    const renamed = await store.registry.renameModel('old name', 'new name');
    expect(renamed).toMatchObject({ name: 'new name', aliases: [{ alias: 'best', version: 1 }], latest: [{ model: 'new name', version: 1 }] });
    expect(await store.models.find('old name')).toBeNull();
    expect(await store.models.aliasHistory('new name', 'none')).toHaveLength(2);
  });

  it('keeps one version a stage when the others are archived', async () => {
    await store.registry.createModel({ name: 'staged', tags: {} });
    for (let i = 0; i < 3; i++) await store.registry.createVersion({ model: 'staged', ...source });
    for (const version of [1, 2]) await store.registry.transition({ model: 'staged', version, stage: 'Production', archiveOthers: false });
    await store.registry.transition({ model: 'staged', version: 3, stage: 'Production', archiveOthers: true });
    const stages = (await store.registry.searchVersions({ ...all, conditions: [{ of: { attribute: 'name' }, comparator: '=', value: 'staged' }] })).map(
      ({ version, modelStage }) => [version, modelStage],
    );
    expect(Object.fromEntries(stages)).toEqual({ 1: 'Archived', 2: 'Archived', 3: 'Production' });
    expect((await store.registry.latestVersions('staged', ['Archived'])).map(({ version }) => version)).toEqual([2]);
  });

  it('searches by attributes and tags, with texts as data', async () => {
    await store.registry.createModel({ name: "it's; drop table models --", tags: { team: 'a%b' } });
    await store.registry.createModel({ name: 'plain', tags: { team: 'axb' } });
    const names = async (conditions: RegistrySearch['conditions']): Promise<readonly string[]> =>
      (await store.registry.searchModels({ ...all, conditions })).map(({ name }) => name);
    expect(await names([{ of: { attribute: 'name' }, comparator: '=', value: "it's; drop table models --" }])).toHaveLength(1);
    expect(await names([{ of: { tag: 'team' }, comparator: '!=', value: 'axb' }])).toEqual(["it's; drop table models --"]);
    expect(await names([{ of: { tag: "team' or 1=1 --" }, comparator: '=', value: 'x' }])).toEqual([]);
    expect(await names([{ of: { attribute: 'name' }, comparator: 'ILIKE', value: 'PL%' }])).toEqual(['plain']);
    expect(await names([{ of: { attribute: 'name' }, comparator: 'IN', value: ['plain', 'none'] }])).toEqual(['plain']);
    await expect(names([{ of: { attribute: 'runId' }, comparator: '=', value: 'x' }])).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('keeps the first predictor that is made of a version', async () => {
    await store.registry.createModel({ name: 'adopted', tags: {} });
    await store.registry.createVersion({ model: 'adopted', ...source });
    expect(await store.registry.adoptPredictor('adopted', 1, 'b'.repeat(64))).toBe('b'.repeat(64));
    expect(await store.registry.adoptPredictor('adopted', 1, 'c'.repeat(64))).toBe('b'.repeat(64));
    await expect(store.registry.adoptPredictor('adopted', 2, 'c'.repeat(64))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
