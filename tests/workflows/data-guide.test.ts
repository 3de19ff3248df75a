/** docs/data.md, run: each pipeline of the page on real servers. One `describe` a section of the page. */
import { createServer } from 'node:http';
import { mkdir, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { ProfileSchema } from '../../contracts/profile.ts';
import type { DatasetRef, FeatureSetRef } from '../../contracts/references.ts';
import type { FeedbackRecord, PredictionRecord } from '../../contracts/routes.ts';
import { type ComparedDataset, compareDatasets } from '../../data/compare-datasets.ts';
import { loadManifest } from '../../data/dataset.ts';
import { withDuckDb } from '../../data/duckdb.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import { emptyDatabase } from '../support/database.ts';
import { guideProject } from '../support/guide-project.ts';
import { failureOf, openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/data.md') });
}, 180_000);

describe('Sources', () => {
  it('from elsewhere come by http, from Postgres, from an iterator and from the logs of predictions', async () => {
    const orders = 'id,total\n1,10.5\n2,20\n';
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method ?? ''} ${request.url ?? ''} ${request.headers.authorization ?? ''}`.trim());
      if (request.url?.startsWith('/shops') === true) {
        response.end(JSON.stringify(request.url.endsWith('=1') ? [{ name: 'North', opened: '2020-02-29' }] : []));
        return;
      }
      response.writeHead(200, { etag: '"1"', 'content-length': String(orders.length) });
      response.end(request.method === 'HEAD' ? undefined : orders);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const databaseUrl = await emptyDatabase();
      const client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
      await client.query("CREATE TABLE customers (id int, city text); INSERT INTO customers VALUES (1, 'Zürich'), (2, 'Oslo')");
      await client.end();
      vi.stubEnv('SOURCE_DATABASE_URL', databaseUrl);
      vi.stubEnv('SOURCE_TOKEN', 'Bearer Secret7');
      const params = { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
      const first = (await env.run('sales', params)) as unknown as Readonly<Record<'orders' | 'customers' | 'shops', DatasetRef>> & { readonly runId: string };
      expect([first.orders.rows, first.customers.rows, first.shops.rows]).toEqual([2, 2, 1]);
      expect((await loadManifest(env.deps.artifacts, first.shops)).columns).toEqual([
        { name: 'opened', type: 'date' },
        { name: 'name', type: 'string' },
      ]);
      expect(asked.filter((line) => line.startsWith('GET /orders'))).toEqual(['GET /orders.csv Bearer Secret7']);
      const second = (await env.run('sales', params)) as unknown as typeof first;
      expect(second).toEqual({ ...first, runId: second.runId });
      // the file was not read again, the others were
      expect(asked.filter((line) => line.startsWith('GET /orders'))).toHaveLength(1);
      expect(asked.filter((line) => line.startsWith('GET /shops?page=1'))).toHaveLength(2);
      const stages = await env.deps.store.stages.list(second.runId);
      expect(stages.map(({ name, cachedFrom }) => [name, cachedFrom !== null])).toEqual([
        ['ingest', true],
        ['ingest-2', false],
        ['ingest-3', false],
      ]);
      expect(JSON.stringify(stages)).not.toMatch(/Secret7|postgres:\/\//);
    } finally {
      vi.unstubAllEnvs();
      server.closeAllConnections();
      server.close();
    }
    const log = async (kind: string, record: PredictionRecord | FeedbackRecord): Promise<void> => {
      const folder = join(env.deps.config.home, kind, 'sales');
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, '2026-01-01T00-a.jsonl'), `${JSON.stringify(record)}\n`);
    };
    await log('predictions', {
      requestId: 'r1',
      row: 0,
      at: '2026-01-01T00:00:00.000Z',
      model: 'sales',
      version: 1,
      challenger: false,
      inputs: { city: 'Oslo' },
      output: [7.5],
      latencyMs: 1,
    });
    await log('feedback', { requestId: 'r1', row: 0, label: 8, at: '2026-01-02T00:00:00.000Z' });
    const { answers } = (await env.run('answered')) as unknown as { readonly answers: DatasetRef };
    expect((await loadManifest(env.deps.artifacts, answers)).columns.map(({ name }) => name).join(' ')).toBe(
      'city prediction label requestId row at model version labelledAt',
    );
  });
});

describe('Incremental ingest', () => {
  it('adds the file that is new, keeps the one that was read, and is cached where nothing is new', async () => {
    const run = async (): Promise<{ readonly visits: DatasetRef; readonly runId: string }> =>
      (await env.run('daily')) as unknown as { visits: DatasetRef; runId: string };
    const first = await run();
    await writeFile(join(env.project, 'data', 'days', '2026-01-02.csv'), 'visitor,seconds\nC1,5\n');
    const second = await run();
    expect([first.visits.rows, second.visits.rows]).toEqual([2, 3]);
    const [before, after] = [await loadManifest(env.deps.artifacts, first.visits), await loadManifest(env.deps.artifacts, second.visits)];
    expect(after.parents).toEqual([first.visits.id]);
    expect(after.files[0]).toEqual(before.files[0]);
    const third = await run();
    expect(third.visits).toEqual(second.visits);
    const fourth = await run();
    expect((await env.deps.store.stages.list(fourth.runId))[0]?.cachedFrom).toMatchObject({ runId: third.runId });
    await writeFile(join(env.project, 'data', 'days', '2026-01-01.csv'), 'visitor,seconds\nA7,13\n');
    expect(await failureOf(await env.start('daily'))).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ file: 'data/days/2026-01-01.csv' }] });
  });
});

describe('Snapshots and the catalogue', () => {
  it('remember each run of a name, compare them, and keep parts for judging from sight', async () => {
    const { datasets } = env.deps.store;
    const first = (await env.run('prices')) as unknown as { checked: DatasetRef; parts: Readonly<Record<'train' | 'validation' | 'test', DatasetRef>> };
    const second = (await env.run('prices', { month: '2026-02' })) as unknown as typeof first;
    expect([(await datasets.find('prices@2')).id, (await datasets.find('prices')).id]).toEqual([first.checked.id, second.checked.id]);
    expect(await datasets.owner(first.parts.train.id)).toBe('market');
    expect((await datasets.lineage(first.checked.id)).descendants.map(({ name }) => name)).toEqual(['prices-test', 'prices-train', 'prices-validation']);
    const compared = async (name: string): Promise<ComparedDataset> => {
      const { id, columns, rows, sizeBytes } = await datasets.find(name);
      const { profile } = await loadManifest(env.deps.artifacts, { id });
      return { columns, rows, sizeBytes, profile: ProfileSchema.parse(await env.deps.artifacts.getJson(profile ?? '')) };
    };
    const difference = compareDatasets(await compared('prices@2'), await compared('prices'));
    expect(difference.added).toEqual([{ name: 'currency', type: 'string' }]);
    expect(difference.columns?.find(({ column }) => column === 'price')?.ks).toBe(1);
    expect(difference.columns?.find(({ column }) => column === 'shop')).toMatchObject({ appeared: ['East'], vanished: ['South'] });
    const { train, validation, test } = first.parts;
    const kept = await Promise.all([train, validation, test].map(async (part) => (await loadManifest(env.deps.artifacts, part)).reserved));
    expect(kept).toEqual([null, 'validation', 'test']);
  });
});

describe('Personal data', () => {
  it('is hashed, masked or dropped, followed, found where nobody declared it, and no feature by chance', async () => {
    const { problems, code } = await failureOf(await env.start('members'));
    expect([code, problems[0]?.path]).toEqual(['FEATURES_INVALID', 'features.member']);
    const { renamed, candidate } = (await env.run('members', { personal: true })) as unknown as { renamed: DatasetRef; candidate: { kind: string } };
    expect(candidate.kind).toBe('candidate');
    const manifest = await loadManifest(env.deps.artifacts, renamed);
    expect(manifest.sensitive).toEqual({ member: 'hash', phone: 'mask' });
    const path = await env.deps.artifacts.pathOf(manifest.files[0]?.sha256 ?? '');
    const [row] = await withDuckDb({}, (db) => db.rows(`SELECT member, phone FROM read_parquet('${path}')`));
    expect(row).toEqual({ member: expect.stringMatching(/^[0-9a-f]{64}$/) as string, phone: '***' });
    const report = (await env.deps.store.datasets.list({ name: 'members', kind: 'validate' }))[0]?.report ?? '';
    expect(await env.deps.artifacts.getJson(report)).toMatchObject({ personal: [{ column: 'contact', kind: 'email', share: 1 }] });
  });
});

describe('Profiles and reports', () => {
  it('say how strongly the columns go along with the target, and are profiled anew for another one', async () => {
    const { checked, runId } = (await env.run('rentals')) as unknown as { checked: DatasetRef; runId: string };
    const { profile } = await loadManifest(env.deps.artifacts, checked);
    const { correlations } = ProfileSchema.parse(await env.deps.artifacts.getJson(profile ?? ''));
    expect(correlations?.skipped).toEqual([]);
    const found = Object.fromEntries((correlations?.columns ?? []).map(({ column, measure, value, rows }) => [column, [measure, value, rows]]));
    expect(found).toEqual({
      // SciPy 1.17.1: pearsonr; η from sums of squares
      day: ['pearson', expect.closeTo(0.8608264315395567, 9), 23],
      temperature: ['pearson', expect.closeTo(0.9346197018755786, 9), 23],
      wind: ['pearson', expect.closeTo(-0.13039184247762625, 9), 23],
      kind: ['correlationRatio', expect.closeTo(0.44556747389420837, 9), 23],
    });
    const [, validated] = await env.deps.store.stages.list(runId);
    expect(validated?.output).toMatchObject({ summary: expect.stringContaining('1 of 2 expectations hold, 1 warnings') as string });
    const cached = async (params: Record<string, unknown>): Promise<readonly boolean[]> => {
      const again = (await env.run('rentals', params)) as unknown as { runId: string };
      return (await env.deps.store.stages.list(again.runId)).map(({ cachedFrom }) => cachedFrom !== null);
    };
    expect(await cached({})).toEqual([true, true]);
    expect(await cached({ target: 'temperature' })).toEqual([true, false]);
    expect((await failureOf(await env.start('rentals', { target: 'rental' }))).code).toBe('COLUMN_MISSING');
  });
});

describe('Expectations', () => {
  it('put failing rows aside with what they fail, or end the run with all of it', async () => {
    const { checked, runId } = (await env.run('weather')) as unknown as { checked: DatasetRef; runId: string };
    expect(checked.rows).toBe(3);
    const made = (await env.deps.store.datasets.list({ limit: 50 })).filter((dataset) => dataset.runId === runId);
    const aside = made.find(({ kind }) => kind === 'quarantine');
    expect(aside).toMatchObject({ name: 'weather-quarantine', rows: 2 });
    const manifest = await loadManifest(env.deps.artifacts, { id: aside?.id ?? '' });
    const path = await env.deps.artifacts.pathOf(manifest.files[0]?.sha256 ?? '');
    const reasons = await withDuckDb({}, (db) => db.rows(`SELECT failed_expectations AS why FROM read_parquet('${path}')`));
    expect(reasons).toEqual([{ why: 'high.between' }, { why: 'compareColumns' }]);

    const report = await failureOf(await env.start('weather', { quarantine: false }));
    expect(report).toMatchObject({
      code: 'EXPECTATIONS_FAILED',
      problems: [
        { path: 'compareColumns', row: 3 },
        { path: 'high.between', row: 1, found: '93.5' },
      ],
    });
  });
});

describe('Cleaning', () => {
  it('repairs the table, and fills the parts with figures of the training part', async () => {
    const { tidy, parts } = (await env.run('brews')) as unknown as { tidy: DatasetRef; parts: { train: DatasetRef; validation: DatasetRef; test: DatasetRef } };
    const open = async (ref: DatasetRef, list: string) => {
      const manifest = await loadManifest(env.deps.artifacts, ref);
      const path = await env.deps.artifacts.pathOf(manifest.files[0]?.sha256 ?? '');
      return { manifest, rows: await withDuckDb({}, (db) => db.rows(`SELECT ${list} FROM read_parquet('${path}')`)) };
    };
    const whole = await open(tidy, 'ounces, abv, ibu, city, state');
    expect(whole.rows[2]).toEqual({ ounces: 16, abv: 0.055, ibu: 41, city: 'San Diego', state: 'CA' });
    expect(whole.rows[0]).toMatchObject({ ibu: null });
    const [train, test] = [await open(parts.train, 'ibu'), await open(parts.test, 'ibu')];
    expect([...train.rows, ...test.rows].every(({ ibu }) => typeof ibu === 'number')).toBe(true);
    expect(test.manifest.transforms).toEqual(train.manifest.transforms);
    expect(test.manifest.unserved).toEqual({});
  });
});

describe('Steps of your own', () => {
  it('make a column that is served by its counterpart, and one that is not', async () => {
    const { ranked } = (await env.run('distances')) as unknown as { ranked: DatasetRef };
    const manifest = await loadManifest(env.deps.artifacts, ranked);
    expect(manifest.columns.map(({ name }) => name)).toEqual(['origin', 'destination', 'distance', 'kilometres', 'rank']);
    expect(manifest.transforms).toMatchObject([{ kind: 'set', column: 'kilometres' }]);
    expect(manifest.unserved).toEqual({ rank: 'the step addRank' });
  });
});

describe('Labels', () => {
  it('come from functions that agree, then from people, and keep who gave them', async () => {
    const { labels } = env.deps.store;
    const run = await env.start('messages');
    const asked = await vi.waitFor(
      async () => {
        const queue = (await labels.list()).find(({ name }) => name === 'messages');
        expect(queue?.waiting).toBe(1);
        return queue;
      },
      { timeout: PATIENCE_MS, interval: 200 },
    );
    // row 4, where two functions conflict, and rows 3 and 5, on which none votes
    expect(asked).toMatchObject({ open: 3, labellers: 2, question: 'Is this message spam?' });
    const answers: Readonly<Record<string, readonly [string, string]>> = {
      'Winner of the meeting quiz': ['ham', 'ham'],
      'Lunch tomorrow?': ['ham', 'ham'],
      'Cheap watches': ['spam', 'spam'],
    };
    for (const [person, by] of ['ada', 'ben'].entries()) {
      for (let item = await labels.next('messages', by); item !== null; item = await labels.next('messages', by))
        await labels.answer('messages', { item: item.id, by, label: answers[String(item.shown['text'])]?.[person] ?? null });
    }
    const { labelled } = (await run.result()) as unknown as { labelled: DatasetRef };
    const manifest = await loadManifest(env.deps.artifacts, labelled);
    expect(manifest.unserved).toMatchObject({ kind: 'label' });
    const rows = await withDuckDb({}, async (db) =>
      db.rows(
        `SELECT id, kind, kind_by, kind_at IS NOT NULL AS timed FROM read_parquet('${await env.deps.artifacts.pathOf(manifest.files[0]?.sha256 ?? '')}')`,
      ),
    );
    expect(rows.map((row) => [Number(row['id']), row['kind'], row['kind_by'], row['timed']])).toEqual([
      [1, 'ham', 'functions', false],
      [2, 'spam', 'functions', false],
      [3, 'ham', 'ada, ben', true],
      [4, 'ham', 'ada, ben', true],
      [5, 'spam', 'ada, ben', true],
      [6, 'ham', null, false],
    ]);
    const stages = (await run.progress()).stages;
    expect(stages.map(({ name }) => name)).toEqual(['ingest', 'label-functions', 'label-people', 'label']);
    expect(stages[1]?.summary).toContain('5 of 6 rows without a label, functions label 2, 1 in conflict: money 20 %');

    // the same rows again: nobody is asked, and the bytes are the same
    const again = (await env.run('messages')) as unknown as { labelled: DatasetRef };
    expect(again.labelled).toEqual(labelled);
  });
});

describe('Splits and leaks', () => {
  type Parts = Readonly<Record<'train' | 'validation' | 'test', DatasetRef>>;

  it('keep a golden set for the test, and make folds of the rest', async () => {
    const { known, parts, folds } = (await env.run('penguins')) as unknown as {
      readonly known: DatasetRef;
      readonly parts: Parts;
      readonly folds: readonly { readonly train: DatasetRef; readonly validation: DatasetRef }[];
    };
    const golden = (await loadManifest(env.deps.artifacts, known)).golden ?? '';
    const reserved = await loadManifest(env.deps.artifacts, { id: golden });
    expect([reserved.name, known.rows + reserved.rows]).toEqual(['penguins-golden', 344]);
    expect((await loadManifest(env.deps.artifacts, parts.test)).files).toEqual(reserved.files);
    expect(parts.train.rows + parts.validation.rows).toBe(known.rows);
    expect(folds.map(({ train, validation }) => train.rows + validation.rows)).toEqual(Array(4).fill(known.rows));
    expect(folds.reduce((sum, { validation }) => sum + validation.rows, 0)).toBe(known.rows);
  });

  it('end a run whose parts share groups, and not one that is split by them', async () => {
    const report = await failureOf(await env.start('visits', { by: 'random' }));
    expect(report.code).toBe('SPLIT_LEAKS');
    expect(report.problems[0]).toMatchObject({ path: 'split.groups', column: 'patient' });
    const parts = (await env.run('visits')) as unknown as Parts;
    expect(parts.train.rows % 3).toBe(0);
    expect(parts.train.rows + parts.validation.rows + parts.test.rows).toBe(12);
  });
});

/** Rows of a query over a dataset. */
async function withDuckDbOf(id: string, query: (relation: string) => string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const { files } = await loadManifest(env.deps.artifacts, { id });
  const paths = await Promise.all(files.map(({ sha256 }) => env.deps.artifacts.pathOf(sha256)));
  return withDuckDb({}, (db) => db.rows(query(`read_parquet(['${paths.join("', '")}'])`)));
}

describe('Features', () => {
  it('are those of each label’s instant', async () => {
    const { training } = (await env.run('offers')) as unknown as { readonly training: DatasetRef };
    const manifest = await loadManifest(env.deps.artifacts, training);
    expect(manifest.columns.map(({ name }) => name)).toEqual(['customer', 'at', 'churned', 'last_amount', 'last_cents', 'orders_7d', 'mean_7d']);
    const path = await env.deps.artifacts.pathOf(manifest.files[0]?.sha256 ?? '');
    const rows = await withDuckDb({}, (db) =>
      db.rows(`SELECT customer, last_amount::DOUBLE AS a, last_cents AS c, orders_7d::INTEGER AS n, mean_7d AS m FROM read_parquet('${path}')`),
    );
    expect(rows.map((row) => Object.values(row))).toEqual([
      ['c1', 20, 2000, 2, 15],
      ['c1', 60, 6000, 2, 40],
      ['c3', null, null, 0, null],
      ['c2', null, null, 0, null],
    ]);
  });

  it('of an airport are looked up for a request that names it, and are those that a training row of that instant has', async () => {
    const { url } = await serve(env);
    const run = (await env.run('delays')) as unknown as { readonly runId: string; readonly online: FeatureSetRef };
    expect(run.online).toMatchObject({ kind: 'features', view: 'airports', version: 1 });
    const predict = async (
      row: object,
    ): Promise<{ readonly status: number; readonly body: { readonly predictions?: readonly object[]; readonly code?: string } }> => {
      const response = await fetch(`${url}/predict/delays`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ rows: [row] }),
      });
      return { status: response.status, body: (await response.json()) as { predictions?: readonly object[]; code?: string } };
    };
    const [snapshot] = await withDuckDbOf(run.online.snapshot, (relation) => {
      const week = `known > (SELECT max(known) FROM ${relation}) - INTERVAL 7 DAY AND origin = 'SFO'`;
      return `SELECT count(*)::INTEGER AS flights_7d, avg(delay) AS mean_delay_7d, avg((delay > 15)::INTEGER) AS late_7d FROM ${relation} WHERE ${week}`;
    });
    expect(snapshot?.['flights_7d']).toBeGreaterThan(3);
    const found = await predict({ origin: 'SFO', distance: 1846 });
    expect(found.status).toBe(200);
    expect(found.body.predictions).toEqual((await predict({ distance: 1846, ...snapshot })).body.predictions);
    expect((await predict({ origin: 'no airport', distance: 1846 })).body.predictions).toEqual(
      (await predict({ distance: 1846, flights_7d: 0, mean_delay_7d: null, late_7d: null })).body.predictions,
    );
    expect(await predict({ distance: 1846 })).toMatchObject({ status: 400, body: { code: 'INVALID_REQUEST', problems: [{ column: 'origin' }] } });
    const [view] = await env.deps.store.featureViews.versions('airports');
    expect(view).toMatchObject({
      owner: 'operations',
      online: { snapshot: run.online.snapshot, asOf: run.online.asOf },
      models: [{ model: 'delays', version: 1 }],
    });
    const undos = await env.deps.store.undos.list(run.runId);
    expect(undos.map(({ kind }) => kind)).toContain('features');
  });
});
