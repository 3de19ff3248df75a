import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PublishedPredictions, ScoredDataset } from '../../contracts/batch-predictions.ts';
import { loadManifest } from '../../data/dataset.ts';
import { readDataset } from '../support/read-dataset.ts';
import { freshDatabase } from '../support/database.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { failureOf, flightsCsv, openEnvironment, serve } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let postgres: pg.Client;
let url: string;
beforeAll(async () => {
  const databaseUrl = await freshDatabase();
  env = await openEnvironment({ databaseUrl });
  ({ url } = await serve(env));
  await env.run('trained', { deploy: true });
  postgres = new pg.Client({ connectionString: databaseUrl });
  await postgres.connect();
}, 180_000);
afterAll(async () => {
  await postgres.end();
});

/** What the prediction server says to the first rows of a file of flights. */
async function answered(count: number, seed = 1): Promise<readonly { readonly label: string; readonly probabilities: Readonly<Record<string, number>> }[]> {
  const rows = flightsCsv(600, seed)
    .split('\n')
    .slice(1, count + 1)
    .map((line) => line.split(','))
    .map(([distance, carrier]) => ({ distance: Number(distance), carrier }));
  const response = await fetch(`${url}/predict/late`, { method: 'POST', body: JSON.stringify({ rows }) });
  return ((await response.json()) as { predictions: Awaited<ReturnType<typeof answered>> }).predictions;
}

const score = (params: object): Promise<ScoredDataset> => env.run('scored', params) as unknown as Promise<ScoredDataset>;

describe('batchPredict', () => {
  it('gives each row what the prediction server answers, raw or prepared as the training rows were', async () => {
    const expected = await answered(600);
    for (const convert of [false, true]) {
      const { predictions, version } = await score({ convert });
      expect(predictions).toMatchObject({ kind: 'dataset', name: 'to-score-predictions', rows: 600 });
      expect(version).toMatchObject({ model: 'late', version: 1 });
      const rows = await readDataset(env.deps.artifacts, predictions);
      expect(Object.keys(rows[0] ?? {})).toEqual([
        'distance',
        'carrier',
        'late',
        ...(convert ? ['converted'] : []),
        'prediction',
        'probability',
        'probability_false',
        'probability_true',
      ]);
      expect(rows.map((row) => row['prediction'])).toEqual(expected.map(({ label }) => label));
      for (const [index, row] of rows.entries()) expect(row['probability_true']).toBeCloseTo(expected[index]?.probabilities['true'] ?? Number.NaN, 6);
    }
  });

  it('takes an alias, keeps the columns asked for, and says who predicted', async () => {
    const { predictions } = await score({ version: 'late@champion', columns: ['carrier'] });
    const manifest = await loadManifest(env.deps.artifacts, predictions);
    expect(manifest.columns.map(({ name }) => name)).toEqual(['carrier', 'prediction', 'probability', 'probability_false', 'probability_true']);
    expect(manifest.unserved).toMatchObject({ prediction: 'the predictions of late 1' });
    expect(await failureOf(await env.start('scored', { version: 'late@nobody' }))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await failureOf(await env.start('scored', { version: 'late', columns: ['nothing'] }))).toMatchObject({ code: 'COLUMN_MISSING' });
    await writeFile(join(env.project, 'data', 'taken.csv'), 'distance,carrier,Prediction\n1,A,x\n');
    expect(await failureOf(await env.start('scored', { path: 'data/taken.csv' }))).toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ column: 'prediction' }],
    });
    await writeFile(join(env.project, 'data', 'without.csv'), 'distance\n1\n');
    expect(await failureOf(await env.start('scored', { path: 'data/without.csv' }))).toMatchObject({ code: 'COLUMN_MISSING' });
  });

  it('writes a table in one step, replaces its rows, and takes them back when the run fails later', async () => {
    const read = async (): Promise<readonly unknown[]> =>
      (await postgres.query('select * from predictions.late_flights order by 1, 2, 3 limit 2')).rows as unknown[];
    const first = (await score({ table: 'late_flights' })) as PublishedPredictions;
    expect(first).toMatchObject({ to: { kind: 'table', name: 'late_flights' }, rows: 600 });
    const before = await read();
    expect(before).toMatchObject([{ carrier: expect.any(String) as string, probability_true: expect.any(Number) as number }, {}]);
    expect((await postgres.query('select count(*)::int as n from predictions.late_flights')).rows).toEqual([{ n: 600 }]);
    await writeFile(join(env.project, 'data', 'others.csv'), `${flightsCsv(50, 7)}\n"7","B, or ""so""\\",\n`);
    const failed = await env.start('scored', { path: 'data/others.csv', table: 'late_flights', fail: true });
    expect((await failureOf(failed)).message).toContain('broken after publishing');
    expect(await read()).toEqual(before);
    const record = await env.deps.store.runs.findByWorkflow(failed.workflowId);
    expect(await env.deps.store.undos.list(record?.id ?? '')).toMatchObject([
      { kind: 'predictions', status: 'done', outcome: 'predictions."late_flights" has the predictions of late 1 again' },
    ]);
    await score({ path: 'data/others.csv', table: 'late_flights' });
    expect((await postgres.query("select carrier, late from predictions.late_flights where carrier like 'B,%'")).rows).toEqual([
      { carrier: 'B, or "so"\\', late: null },
    ]);
    expect((await postgres.query('select count(*)::int as n from predictions.late_flights')).rows).toEqual([{ n: 51 }]);
    await env.deps.store.predictionSets.sweep();
    expect((await postgres.query("select count(*)::int as n from pg_tables where schemaname = 'prediction_sets'")).rows).toEqual([{ n: 1 }]);
  });

  it('puts predictions into service by key, and refuses a key of several rows', async () => {
    const lines = flightsCsv(40).split('\n');
    const keyed = [`id,${lines[0] ?? ''}`, ...lines.slice(1).map((line, index) => `${String(index)},${line}`)];
    await writeFile(join(env.project, 'data', 'keyed.csv'), [...keyed, ',900,A,'].join('\n'));
    const published = (await score({ path: 'data/keyed.csv', endpoint: 'late' })) as PublishedPredictions;
    expect(published).toMatchObject({ to: { kind: 'endpoint', name: 'late', key: ['id'] }, rows: 40 });
    expect(await env.deps.store.predictionSets.current('endpoint', 'late')).toMatchObject({
      model: 'late',
      version: 1,
      rows: 40,
      columns: [{ name: 'id', type: 'integer' }],
    });
    const [head = '', ...rows] = keyed;
    const all = rows
      .slice(0, 5)
      .map((line) => Object.fromEntries(line.split(',').map((value, at) => [head.split(',')[at] ?? '', at < 2 ? Number(value) : value])));
    const asked = async (body: object): Promise<{ readonly status: number } & Record<string, unknown>> => {
      const response = await fetch(`${url}/predict/late`, { method: 'POST', body: JSON.stringify(body) });
      return { status: response.status, ...((await response.json()) as Record<string, unknown>) };
    };
    const live = await asked({ rows: all });
    const byKey = await asked({ keys: [0, 1, 2, 3, 4, 999] });
    expect(byKey).toEqual({
      status: 200,
      requestId: byKey['requestId'],
      model: 'late',
      version: 1,
      precomputed: 5,
      predictions: [...(live['predictions'] as unknown[]), null],
    });
    const hybrid = await asked({ keys: [0, 900, 2, 901, 4], rows: all });
    expect(hybrid).toMatchObject({ status: 200, precomputed: 3, predictions: live['predictions'] });
    expect(await asked({ keys: [0, 'one'] })).toMatchObject({ status: 400, code: 'INVALID_REQUEST', problems: [{ path: 'keys[1]', column: 'id' }] });
    expect(await asked({ keys: [0], rows: all })).toMatchObject({ status: 400 });
    expect(await asked({ keys: [1, 902], rows: [all[1], { carrier: 'A' }] })).toMatchObject({ status: 400, problems: [{ row: 1, column: 'distance' }] });
    const elsewhere = await fetch(`${url}/predict/nobody`, { method: 'POST', body: '{"keys": [1]}' });
    expect([elsewhere.status, ((await elsewhere.json()) as { code: string }).code]).toEqual([404, 'NOT_FOUND']);

    const repeated = await failureOf(await env.start('scored', { path: 'data/keyed.csv', endpoint: 'late', key: 'carrier' }));
    expect(repeated).toMatchObject({ code: 'INVALID_PARAMETERS' });
    expect(repeated.problems[0]?.message).toMatch(/^stands in \d+ rows$/);
  });
});
