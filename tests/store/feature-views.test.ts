import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import type { FeatureView } from '../../contracts/feature-views.ts';
import type { FeatureValuesRow } from '../../store/feature-views.ts';
import { listLiveRoots } from '../../store/live-roots.ts';
import { openDatabase } from '../../store/database.ts';
import { freshStore } from '../support/database.ts';

let store: Awaited<ReturnType<typeof freshStore>>;
let client: pg.Client;
beforeAll(async () => {
  store = await freshStore({ poolSize: 8 });
  client = new pg.Client({ connectionString: store.databaseUrl });
  await client.connect();
});
afterAll(() => client.end());

const newId = (): string => randomBytes(16).toString('hex');
const sha = (text: string): string => Buffer.from(text.padEnd(32, '.')).toString('hex').slice(0, 64);
const DAY = (day: number): string => new Date(Date.UTC(2026, 0, day)).toISOString();

const viewOf = (name: string, more: Partial<FeatureView> = {}): FeatureView => ({
  name,
  entity: ['shop'],
  eventTime: 'at',
  features: { amount: { kind: 'value', of: { op: 'column', name: 'amount' } } },
  ttlMs: null,
  owner: 'sales',
  ...more,
});

interface Attempt {
  readonly runId: string;
  readonly stage: string;
  readonly token: number;
}
async function attempt(of?: { runId: string }): Promise<Attempt> {
  const runId = of?.runId ?? newId();
  if (of === undefined) await store.runs.begin({ runId, workflowId: `w-${runId}`, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  const { token } = await store.stages.begin({ runId, name: 'materialize', kind: 'materialize', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  return { runId, stage: 'materialize', token };
}

const rowsOf = (value: number, count = 3): FeatureValuesRow[] =>
  Array.from({ length: count }, (_, n) => ({ key: `k${String(n)}`, atMs: Date.UTC(2026, 0, 1), values: JSON.stringify({ amount: value }) }));

async function open(name: string, day: number, by: Attempt, snapshot = sha(`${name}-${String(day)}`)) {
  const version = await store.featureViews.declare({ view: viewOf(name), definition: sha('d') });
  return store.featureViews.begin({ view: name, version, snapshot, asOf: DAY(day), ...by });
}

/** A whole materialisation; its set's number. */
async function materialize(name: string, day: number, value: number, by?: Attempt): Promise<number> {
  const as = by ?? (await attempt());
  const begun = await open(name, day, as);
  if (begun.state !== 'writing') throw new Error(`nothing to write: ${begun.state}`);
  await store.featureViews.write(begun.set, rowsOf(value));
  expect((await store.featureViews.publish({ set: begun.set, entities: 3, ...as })).state).toBe('published');
  if (by === undefined) await store.runs.end({ runId: as.runId, status: 'completed' });
  return begun.set;
}

const amountOf = async (name: string): Promise<unknown> => {
  const { materialized, rows } = await store.featureViews.lookup(name, sha('d'), ['k1', 'unknown']);
  return materialized ? rows.get('k1')?.values['amount'] : 'nothing';
};
const storedRows = async (set: number): Promise<number> =>
  Number((await client.query<{ n: string }>('select count(*) as n from feature_values where "set" = $1', [set])).rows[0]?.n);

/** Rows of each set, in the order given. */
async function storedRowsOf(sets: readonly number[]): Promise<readonly number[]> {
  const counts: number[] = [];
  for (const set of sets) counts.push(await storedRows(set));
  return counts;
}

describe('online values', () => {
  it('are seen only when they are published, all at once, and the ones before until then', async () => {
    await materialize('shops', 1, 10);
    const by = await attempt();
    const begun = await open('shops', 2, by);
    if (begun.state !== 'writing') throw new Error('nothing to write');
    await store.featureViews.write(begun.set, rowsOf(20));
    expect(await amountOf('shops')).toBe(10);
    await store.featureViews.publish({ set: begun.set, entities: 3, ...by });
    expect(await amountOf('shops')).toBe(20);
    const { rows } = await store.featureViews.lookup('shops', sha('d'), ['k0', 'unknown']);
    expect([...rows]).toEqual([['k0', { atMs: Date.UTC(2026, 0, 1), values: { amount: 20 } }]]);
    expect(await store.featureViews.lookup('shops', sha('other'), ['k0'])).toEqual({ materialized: false, rows: new Map() });
    expect(await store.featureViews.lookup('never', sha('d'), ['k0'])).toEqual({ materialized: false, rows: new Map() });
  });

  it('of the same snapshot and instant are not written again, and those of an older instant do not replace newer ones', async () => {
    const set = await materialize('steady', 5, 1);
    expect(await open('steady', 5, await attempt())).toMatchObject({ state: 'same', current: { id: set, entities: 3, asOf: DAY(5) } });
    expect(await open('steady', 4, await attempt())).toMatchObject({ state: 'older', current: { id: set } });
    // another snapshot of the same instant is a correction
    expect((await open('steady', 5, await attempt(), sha('corrected'))).state).toBe('writing');
    // one that began before a newer one was published does not replace it either
    const [early, late] = [await attempt(), await attempt()];
    const [six, seven] = [await open('steady', 6, early), await open('steady', 7, late)];
    if (six.state !== 'writing' || seven.state !== 'writing') throw new Error('nothing to write');
    await store.featureViews.publish({ set: seven.set, entities: 0, ...late });
    expect(await store.featureViews.publish({ set: six.set, entities: 0, ...early })).toMatchObject({ state: 'older', current: { id: seven.set } });
    expect(await store.undos.pending(early.runId)).toEqual([]);
  });

  it('of an attempt that a newer one has overtaken are neither written nor published', async () => {
    await materialize('fenced', 1, 10);
    const old = await attempt();
    const begun = await open('fenced', 2, old);
    if (begun.state !== 'writing') throw new Error('nothing to write');
    const by = await attempt(old);
    const again = await open('fenced', 2, by);
    if (again.state !== 'writing') throw new Error('nothing to write');
    await expect(store.featureViews.write(begun.set, rowsOf(2))).rejects.toMatchObject({ code: 'FENCED' });
    await expect(store.featureViews.publish({ set: begun.set, entities: 3, ...old })).rejects.toMatchObject({ code: 'FENCED' });
    await store.featureViews.write(again.set, rowsOf(3));
    await store.featureViews.publish({ set: again.set, entities: 3, ...by });
    // the attempt does not know that it succeeded
    expect(await store.featureViews.publish({ set: again.set, entities: 3, ...by })).toMatchObject({ state: 'published' });
    expect(await amountOf('fenced')).toBe(3);
    expect(await store.undos.pending(by.runId)).toHaveLength(1);
    await store.runs.end({ runId: by.runId, status: 'failed' });
    await expect(open('fenced', 3, by)).rejects.toMatchObject({ code: 'FENCED' });
  });

  it('go back to those before when their run is undone, unless newer ones have come', async () => {
    await materialize('undone', 1, 10);
    const [by, next] = [await attempt(), await attempt()];
    await materialize('undone', 2, 20, by);
    expect(await store.featureViews.sweep('undone')).toBe(0);
    const performed = await store.undos.perform(by.runId);
    expect(performed.failed).toEqual([]);
    expect(performed.done).toMatchObject([{ kind: 'features', outcome: `undone has its values as of ${DAY(1)} again` }]);
    expect(await amountOf('undone')).toBe(10);
    await materialize('undone', 3, 30, next);
    const last = await attempt();
    await materialize('undone', 4, 40, last);
    expect((await store.undos.perform(next.runId)).done).toMatchObject([{ outcome: 'undone has newer values since; they stay' }]);
    expect(await amountOf('undone')).toBe(40);
    // the one between was undone: it is not what comes back
    await store.undos.perform(last.runId);
    expect(await amountOf('undone')).toBe(10);
    const first = await attempt();
    await materialize('first', 1, 1, first);
    expect((await store.undos.perform(first.runId)).done).toMatchObject([{ outcome: 'first has no online values now' }]);
    expect(await amountOf('first')).toBe('nothing');
  });

  it('that nobody reads and no undo can bring back are removed, others are kept', async () => {
    const one = await materialize('swept', 1, 1);
    const two = await materialize('swept', 2, 2);
    const by = await attempt();
    const three = await materialize('swept', 3, 3, by);
    await store.featureViews.sweep('swept');
    expect(await storedRowsOf([one, two, three])).toEqual([0, 3, 3]);
    await store.runs.end({ runId: by.runId, status: 'failed' });
    await store.featureViews.sweep('swept');
    // it failed, and what it owes is not undone yet
    expect(await storedRows(two)).toBe(3);
    await store.undos.perform(by.runId);
    await store.featureViews.sweep();
    expect(await storedRowsOf([one, two, three])).toEqual([0, 3, 0]);
    expect(await amountOf('swept')).toBe(2);
    const database = openDatabase({ databaseUrl: store.databaseUrl });
    const { itself } = await listLiveRoots(database.orm).finally(() => database.pool.end());
    expect(itself.filter((id) => [1, 2, 3].some((day) => id === sha(`swept-${String(day)}`)))).toEqual([sha('swept-2')]);
  });

  it('of a process that is killed in the middle are never seen, and are removed when its run has ended', async () => {
    await materialize('killed', 1, 10);
    const by = await attempt();
    const program = `
      import { openStore } from './store/store.ts';
      const store = openStore({ databaseUrl: ${JSON.stringify(store.databaseUrl)} });
      const by = ${JSON.stringify(by)};
      const version = await store.featureViews.declare(${JSON.stringify({ view: viewOf('killed'), definition: sha('d') })});
      const begun = await store.featureViews.begin({ view: 'killed', version, snapshot: ${JSON.stringify(sha('killed-2'))}, asOf: ${JSON.stringify(DAY(2))}, ...by });
      for (let n = 0; ; n += 1) {
        await store.featureViews.write(begun.set, Array.from({ length: 500 }, (_, k) => ({ key: 'k' + (n * 500 + k), atMs: 0, values: '{"amount":99}' })));
        console.log(begun.set, n);
      }`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      cwd: packageRoot,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    let set = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      set = Number(line.split(' ')[0]);
      if (line.endsWith(' 3')) child.kill('SIGKILL');
    }
    await exited;
    expect(await storedRows(set)).toBeGreaterThanOrEqual(2_000);
    expect(await amountOf('killed')).toBe(10);
    // its run goes on: another attempt may come, and nothing of this one is left when it does
    await store.featureViews.sweep('killed');
    expect(await storedRows(set)).toBeGreaterThanOrEqual(2_000);
    await store.runs.end({ runId: by.runId, status: 'terminated' });
    await store.featureViews.sweep();
    expect(await storedRows(set)).toBe(0);
    expect(await amountOf('killed')).toBe(10);
  });
});

describe('the catalogue of feature views', () => {
  it('numbers definitions, keeps what is said of one up to date, and names the models that were trained with it', async () => {
    const { featureViews, models } = store;
    const declared = await Promise.all(['a', 'b', 'a', 'b', 'c'].map((d) => featureViews.declare({ view: viewOf('listed'), definition: sha(d) })));
    expect(declared[0]).toBe(declared[2]);
    expect(declared[1]).toBe(declared[3]);
    expect(new Set(declared)).toEqual(new Set([1, 2, 3]));
    await featureViews.declare({ view: viewOf('listed', { owner: 'finance' }), definition: sha('c') });
    const trained = { model: 'basket', predictor: sha('p'), metrics: {}, evaluation: null };
    await models.register({ ...trained, features: [{ view: 'listed', definition: sha('c') }] });
    await models.register({
      ...trained,
      features: [
        { view: 'listed', definition: sha('a') },
        { view: 'shops', definition: sha('d') },
      ],
    });
    const found = await featureViews.versions('listed');
    expect(found.map(({ version }) => version)).toEqual([3, 2, 1]);
    expect(found.find(({ definition }) => definition === sha('c'))).toMatchObject({
      owner: 'finance',
      online: null,
      models: [{ model: 'basket', version: 1 }],
    });
    expect(found.find(({ definition }) => definition === sha('a'))).toMatchObject({ owner: 'sales', models: [{ model: 'basket', version: 2 }] });
    const all = await featureViews.list();
    expect(all.find(({ name }) => name === 'listed')).toMatchObject({ version: 3 });
    expect(all.find(({ name }) => name === 'shops')).toMatchObject({ online: { asOf: DAY(2), entities: 3 }, models: [{ model: 'basket', version: 2 }] });
    const names = all.map(({ name }) => name);
    expect(names).toEqual([...names].sort());
    expect((await featureViews.list({ limit: 2, after: names[0] ?? '' })).map(({ name }) => name)).toEqual(names.slice(1, 3));
    await expect(featureViews.versions('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
