import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { MillraceError } from '../../contracts/errors.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

interface RunJson {
  readonly info: { readonly run_id: string; readonly status: string; readonly lifecycle_stage: string; readonly end_time: number | null };
  readonly data: Readonly<Record<'metrics' | 'params' | 'tags', readonly { readonly key: string; readonly value: unknown; readonly step?: number }[]>>;
}

let store: Store & { readonly databaseUrl: string };
beforeAll(async () => {
  store = await freshStore();
});

const AT = 1_700_000_000_000;
async function newRun(experimentId = '0'): Promise<string> {
  const id = randomBytes(16).toString('hex');
  await store.trackedRuns.create({ id, experimentId, name: 'r', startedAtMs: AT, tags: { 'mlflow.runName': 'r' } });
  return id;
}
const read = async (runId: string): Promise<RunJson> => JSON.parse(await store.trackedRuns.json(runId)) as RunJson;
const log = (runId: string, more: Partial<Parameters<Store['trackedRuns']['log']>[0]>) =>
  store.trackedRuns.log({ runId, metrics: [], params: [], tags: [], ...more });
const search = (experimentIds: readonly string[], filter: string, orderBy: readonly string[] = []) =>
  store.trackedRuns.search({ experimentIds, filter, orderBy, view: 'active', limit: 100, offset: 0 });
const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'nothing';
  } catch (error) {
    return error instanceof MillraceError ? error.code : String(error);
  }
};

describe('runs of clients', () => {
  it('keep the latest point of a metric, whatever order the points come in', async () => {
    const runId = await newRun();
    const points = Array.from({ length: 60 }, (_, i) => ({ key: 'm', step: Math.floor(i / 6), atMs: AT + (i % 6 < 3 ? 0 : 1), value: i % 3 }));
    const shuffled = points.toSorted((a, b) => ((a.step * 31 + a.value * 17 + a.atMs) % 7) - ((b.step * 31 + b.value * 17 + b.atMs) % 7));
    await Promise.all(Array.from({ length: 6 }, (_, i) => log(runId, { metrics: shuffled.slice(i * 10, i * 10 + 10) })));
    expect((await read(runId)).data.metrics).toEqual([{ key: 'm', value: 2, step: 9, timestamp: AT + 1 }]);
    // All of it once more, as a client does that was cut off.
    await log(runId, { metrics: points });
    const { points: history } = await store.trackedRuns.history({ runId, name: 'm', limit: 1_000 });
    expect(JSON.parse(history)).toHaveLength(60);
  });

  it('take one value for a parameter that many log at once', async () => {
    const runId = await newRun();
    const codes = await Promise.all(
      Array.from({ length: 8 }, (_, i) => codeOf(log(runId, { params: [{ key: 'p', value: String(i) }], tags: [{ key: `t${i}`, value: 'x' }] }))),
    );
    expect(codes.filter((code) => code === 'nothing')).toHaveLength(1);
    expect(codes.filter((code) => code === 'INVALID_REQUEST')).toHaveLength(7);
    const { data } = await read(runId);
    // What came with a refused parameter was refused with it.
    expect(data.tags.filter(({ key }) => key.startsWith('t')).map(({ key }) => key)).toEqual([`t${String(data.params[0]?.value)}`]);
  });

  it('are gone and back with their experiment', async () => {
    const experiment = await store.experiments.create({ name: 'goes', tags: {} });
    const runId = await newRun(experiment);
    await store.experiments.remove(experiment);
    expect((await read(runId)).info.lifecycle_stage).toBe('deleted');
    expect((await search([experiment], '')).items).toEqual([]);
    expect(await codeOf(store.experiments.remove(experiment))).toBe('INVALID_REQUEST');
    await store.experiments.restore(experiment);
    expect((await search([experiment], '')).items).toEqual([runId]);
  });

  it('take their points along when they are removed, and no point comes without a run', async () => {
    const [kept, gone] = [await newRun(), await newRun()];
    for (const runId of [kept, gone]) await log(runId, { metrics: [{ key: 'm', value: 1, step: 0, atMs: AT }] });
    const client = new pg.Client({ connectionString: store.databaseUrl });
    await client.connect();
    try {
      await client.query('delete from runs where id = $1', [gone]);
      const points = await client.query<{ run_id: string }>(
        `select run_id from metrics where run_id = any($1) union all select run_id from latest_metrics where run_id = any($1)`,
        [[kept, gone]],
      );
      expect(points.rows).toEqual([{ run_id: kept }, { run_id: kept }]);
      await expect(client.query(`insert into metrics (run_id, key, value) values ($1, 'm', 1)`, [gone])).rejects.toMatchObject({ code: '23503' });
    } finally {
      await client.end();
    }
  });

  it('are found by no filter of another experiment, nor by ids that are none', async () => {
    await newRun();
    expect((await search(['no number', '-1', '99999999999999999999'], '')).items).toEqual([]);
    expect(await codeOf(store.experiments.get('1 or 1=1'))).toBe('NOT_FOUND');
  });
});

describe("a pipeline's run", () => {
  const begin = (runId: string, workflowId: string, pipeline: string) =>
    store.runs.begin({ runId, workflowId, temporalRunId: 't', pipeline, params: { rows: 10 }, trigger: { kind: 'cli', by: 'ann' } });

  it('joins the experiment of its name that a client made before, and keeps it under another name', async () => {
    const experiment = await store.experiments.create({ name: 'adopted', tags: { by: 'client' } });
    const [first, second] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')];
    await begin(first, 'w1', 'adopted');
    await store.experiments.rename(experiment, 'called otherwise');
    await begin(second, 'w2', 'adopted');
    expect(new Set((await search([experiment], '')).items)).toEqual(new Set([first, second]));
    expect(await store.experiments.get(experiment)).toMatchObject({ name: 'called otherwise', pipeline: 'adopted', tags: { by: 'client' } });
  });

  it('brings a deleted experiment back when it runs again', async () => {
    const first = randomBytes(16).toString('hex');
    await begin(first, 'w3', 'returning');
    await store.runs.end({ runId: first, status: 'completed' });
    const experiment = (await store.experiments.findByName('returning'))?.id ?? '';
    await store.experiments.remove(experiment);
    await begin(randomBytes(16).toString('hex'), 'w4', 'returning');
    expect((await store.experiments.get(experiment)).lifecycleStage).toBe('active');
  });

  it('is not ended by a client, and is deleted only after its end', async () => {
    const runId = randomBytes(16).toString('hex');
    await begin(runId, 'w5', 'steered');
    await store.trackedRuns.update({ runId, status: 'FAILED', endedAtMs: AT });
    expect((await read(runId)).info).toMatchObject({ status: 'RUNNING', end_time: null });
    expect(await codeOf(store.trackedRuns.remove(runId))).toBe('INVALID_REQUEST');
    await store.runs.end({ runId, status: 'terminated' });
    expect((await read(runId)).info.status).toBe('KILLED');
    await store.trackedRuns.remove(runId);
    expect((await read(runId)).info.lifecycle_stage).toBe('deleted');
  });

  it('shows what a later attempt of a stage was given and measured', async () => {
    const runId = randomBytes(16).toString('hex');
    await begin(runId, 'w6', 'attempts');
    const attempt = (number: number) =>
      store.stages.begin({
        runId,
        name: 'train',
        kind: 'train',
        ordinal: 1,
        attempt: number,
        fingerprint: null,
        input: { trees: number * 100, deep: { er: [1, { a: 2 }] } },
        useCache: false,
      });
    await attempt(1);
    const { token } = await attempt(2);
    // The same key and step twice: the later counts.
    await store.stages.complete({
      runId,
      name: 'train',
      token,
      output: {},
      metrics: [
        { key: 'auc', value: 0.5 },
        { key: 'auc', value: 0.6 },
      ],
    });
    const { data } = await read(runId);
    expect(data.params).toEqual([
      { key: 'rows', value: '10' },
      { key: 'train/deep.er', value: '[1, {"a": 2}]' },
      { key: 'train/trees', value: '200' },
    ]);
    expect(data.metrics).toMatchObject([{ key: 'train/auc', value: 0.6 }]);
    expect(await store.metrics.latest(runId)).toMatchObject([{ stage: 'train', key: 'auc', value: 0.6 }]);
  });
});

describe('any filter that can be read', () => {
  const quote = (text: string, mark: string): string => `${mark}${text.replaceAll(mark, mark + mark)}${mark}`;
  const odd = fc.oneof(
    fc.constantFrom(`'`, `"`, `\\`, `%`, `_`, `$1`, `;--`, `'; drop table runs; --`, `a\\`, `{}`, `[`),
    fc.string({ unit: 'grapheme', maxLength: 12 }),
  );
  const key = odd.map((text) => quote(text === '' ? 'k' : text, '`'));
  const value = odd.map((text) => quote(text, `'`));
  const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map(String);
  const clause = fc.oneof(
    fc.tuple(key, fc.constantFrom('<', '<=', '>', '>=', '=', '!='), number).map(([k, op, n]) => `metrics.${k} ${op} ${n}`),
    fc.tuple(fc.constantFrom('params', 'tags'), key, fc.constantFrom('=', '!=', 'LIKE', 'ILIKE'), value).map(([e, k, op, v]) => `${e}.${k} ${op} ${v}`),
    fc.tuple(fc.constantFrom('params', 'tags'), key, fc.constantFrom('IS NULL', 'IS NOT NULL')).map(([e, k, op]) => `${e}.${k} ${op}`),
    fc
      .tuple(
        fc.constantFrom('run_name', 'status', 'user_id', 'artifact_uri', 'dataset.name', 'datasets.context'),
        fc.constantFrom('=', '!=', 'LIKE', 'ILIKE'),
        value,
      )
      .map((parts) => parts.join(' ')),
    fc
      .tuple(fc.constantFrom('run_id', 'dataset.digest'), fc.constantFrom('IN', 'NOT IN'), fc.array(value, { minLength: 1, maxLength: 3 }))
      .map(([k, op, v]) => `${k} ${op} (${v.join(', ')})`),
    fc.tuple(fc.constantFrom('start_time', 'attributes.end_time'), fc.constantFrom('<', '>=', '!='), number).map((parts) => parts.join(' ')),
  );
  const order = fc
    .tuple(
      fc.oneof(
        key.map((k) => `metrics.${k}`),
        key.map((k) => `params.${k}`),
        fc.constantFrom('start_time', 'end_time', 'status', 'run_name'),
      ),
      fc.constantFrom('ASC', 'DESC', ''),
    )
    .map((parts) => parts.join(' '));

  it('is answered by Postgres, and harms nothing', async () => {
    const runId = await newRun();
    await log(runId, { metrics: [{ key: 'm', value: 1, step: 0, atMs: AT }], params: [{ key: 'p', value: 'x' }] });
    await fc.assert(
      fc.asyncProperty(fc.array(clause, { maxLength: 5 }), fc.array(order, { maxLength: 2 }), async (clauses, orders) => {
        const code = await codeOf(search(['0'], clauses.join(' AND '), orders));
        // Two orders by one field are refused; a NUL has no place in a text of Postgres.
        if (code !== 'nothing' && !(code === 'INVALID_REQUEST' && (orders.length > 1 || clauses.join('').includes('\u0000'))))
          throw new Error(`${code}: ${clauses.join(' AND ')} by ${orders.join(', ')}`);
      }),
      { numRuns: 200, seed: 8 },
    );
    expect((await search(['0'], `run_id = '${runId}'`)).items).toEqual([runId]);
  });

  it('is a text and no pattern of another kind: a backslash stands for itself', async () => {
    const runId = await newRun();
    await log(runId, { tags: [{ key: 'path', value: 'C:\\temp' }] });
    expect((await search(['0'], String.raw`tags.path LIKE 'C:\t%'`)).items).toEqual([runId]);
    expect((await search(['0'], String.raw`tags.path LIKE '%\'`)).items).toEqual([]);
  });
});
