import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FeatureView } from '../../../contracts/feature-views.ts';
import { call, col, hashed, type RowTransform, set } from '../../../contracts/row-transforms.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { createEntityReader, featuresAt } from '../../../data/row-entity.ts';
import { featureDefinition } from '../../../data/feature-definition.ts';
import { joinTrainingSet } from '../../../data/feature-views.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { withLatestFeatures } from '../../../data/latest-features.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { featureView, over } from '../../../workflows/feature-view.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let files = 0;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
});
afterAll(() => artifacts.remove());

const HASH_KEY = 'k'.repeat(64);
type Json = string | number | boolean | null;
type JsonRow = Readonly<Record<string, Json>>;

async function table(rows: readonly JsonRow[], transforms: readonly RowTransform[] = []): Promise<StoredDataset> {
  const path = `t${String(files++)}.jsonl`;
  await writeFile(join(artifacts.folder, path), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const all = {
    shop: 'string',
    id: 'integer',
    at: 'timestamp',
    amount: 'number',
    units: 'integer',
    note: 'string',
    paid: 'boolean',
    due: 'date',
    seen: 'timestamp',
  } as const;
  const names = new Set(rows.flatMap((row) => Object.keys(row)));
  return ingestSource({
    source: { format: 'jsonl', path, types: Object.fromEntries(Object.entries(all).filter(([name]) => names.has(name))) },
    name: 'data',
    artifacts,
    projectFolder: artifacts.folder,
    transforms,
    hashKey: HASH_KEY,
  });
}

/** The online store's rows, in memory. */
async function materialized(view: FeatureView, from: StoredDataset, asOfMs?: number) {
  const source = { view, manifest: from.manifest, id: from.ref.id };
  return withLatestFeatures(
    { source, nowMs: Date.UTC(2030, 0, 1), artifacts, hashKey: HASH_KEY, ...(asOfMs === undefined ? {} : { asOfMs }) },
    async (found) => {
      const rows = new Map<string, { atMs: number; values: Record<string, Json> }>();
      for await (const batch of found.batches())
        for (const { key, atMs, values } of batch) {
          expect(rows.has(key)).toBe(false);
          rows.set(key, { atMs, values: JSON.parse(values) as Record<string, Json> });
        }
      return { asOfMs: found.asOfMs, rows };
    },
  );
}

async function trainingRows(labels: StoredDataset, view: FeatureView, from: StoredDataset) {
  const views = [{ view, manifest: from.manifest, id: from.ref.id }];
  const { manifest } = await joinTrainingSet({ labels: labels.manifest, labelsId: labels.ref.id, eventTime: 'at', views, artifacts, hashKey: HASH_KEY });
  const paths = (await datasetFiles(artifacts, manifest)).map(({ path }) => path);
  const list = Object.keys(view.features).map((name) => {
    const type = manifest.columns.find((column) => column.name === name)?.type;
    return type === 'timestamp' || type === 'date' ? `strftime("${name}"::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%gZ') AS "${name}"` : `"${name}"`;
  });
  const rows = await withDuckDb({}, (db) => db.rows(`SELECT ${list.join(', ')} FROM ${parquetRelation(paths)}`));
  const [lookup] = manifest.lookups;
  if (lookup === undefined) throw new Error('the training set does not say where its features are from');
  return {
    manifest,
    lookup,
    rows: rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, typeof value === 'bigint' ? Number(value) : value]))),
  };
}

const view = featureView({
  name: 'trade',
  entity: ['shop', 'id'],
  eventTime: 'at',
  features: {
    last_amount: 'amount',
    twice: call('multiply', col('amount'), 2),
    last_note: 'note',
    last_paid: 'paid',
    last_due: 'due',
    last_seen: 'seen',
    last_units: 'units',
    rows_5s: over('5 seconds', 'count'),
    priced_5s: over('5 seconds', 'count', 'amount'),
    sum_5s: over('5 seconds', 'sum', 'units'),
    mean_9s: over('9 seconds', 'mean', 'amount'),
    min_note_9s: over('9 seconds', 'min', 'note'),
    max_due_9s: over('9 seconds', 'max', 'due'),
    newest_seen_9s: over('9 seconds', 'last', 'seen'),
    newest_amount_9s: over('9 seconds', 'last', call('if', col('paid'), col('amount'), null)),
  },
  ttl: '6 seconds',
});

const START = Date.UTC(2026, 0, 1);
const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(value, { freq: 8, nil: null });
/** Texts that look like other things: numbers, each other's parts, decomposed and composed letters, quotes. */
const shop = fc.constantFrom('a', 'A', '1', '01', 'é', 'e\u0301', '😀', 'a","b', ' a', '\\');
const id = fc.constantFrom(1, 0, -1, 10, Number.MAX_SAFE_INTEGER);
const instant = fc.integer({ min: -20_000, max: 20_000 }).map((ms) => new Date(START + ms).toISOString());
const event = fc.record({
  shop: maybe(shop),
  id: maybe(id),
  at: maybe(instant),
  // sums of these depend on how they are added
  amount: maybe(
    fc.oneof(
      fc.integer({ min: -400, max: 400 }).map((tenths) => tenths / 10),
      fc.constantFrom(1e17, -1e17, 1e-9),
    ),
  ),
  units: maybe(fc.integer({ min: -50, max: 50 })),
  note: maybe(shop),
  paid: maybe(fc.boolean()),
  due: maybe(fc.integer({ min: 0, max: 400 }).map((days) => new Date(START + days * 86_400_000).toISOString().slice(0, 10))),
  seen: maybe(instant),
});

describe('online values', () => {
  it('are at their instant what the point-in-time join gives a label of that instant, for every kind of feature', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(event, { minLength: 1, maxLength: 40 }).filter((events) => events.some((e) => e.shop !== null && e.id !== null && e.at !== null)),
        fc.array(fc.record({ shop: maybe(shop), id: maybe(id) }), { minLength: 1, maxLength: 15 }),
        fc.integer({ min: -21_000, max: 21_000 }),
        async (events, asked, asOf) => {
          const asOfMs = START + asOf;
          const from = await table(events);
          // half of those asked for are in the data
          const requests = asked.map((one, index) =>
            index % 2 === 0 ? one : { shop: events[index % events.length]?.shop ?? null, id: events[index % events.length]?.id ?? null },
          );
          const labels = await table(requests.map((request) => ({ ...request, at: new Date(asOfMs).toISOString() })));
          const trained = await trainingRows(labels, view, from);
          const online = await materialized(view, from, asOfMs);
          const reader = createEntityReader(trained.lookup);
          const found = requests.map((request, index) => {
            // an integer may come as text, as clients send what JSON's numbers do not hold
            const read = reader?.read(index % 3 === 0 ? { ...request, id: request.id === null ? null : String(request.id) } : request, index);
            if (read === undefined || 'problems' in read) throw new Error(`${JSON.stringify(request)} names no entity`);
            return featuresAt(trained.lookup, read.key, read.key === null ? undefined : online.rows.get(read.key), asOfMs);
          });
          expect(found).toEqual(trained.rows);
        },
      ),
      { numRuns: 20 },
    );
  }, 240_000);

  it('are taken at the newest row, and at no instant that is yet to come', async () => {
    const from = await table([
      { shop: 'a', id: 1, at: '2026-01-01T00:00:00.0001Z', amount: 5 },
      { shop: 'a', id: 1, at: '2031-01-01T00:00:00Z', amount: 6 },
    ]);
    const plain = { ...view, ttlMs: null, features: { last_amount: view.features['last_amount'] ?? { kind: 'value', of: { op: 'column', name: 'amount' } } } };
    const now = await materialized(plain, from);
    expect(now.asOfMs).toBe(Date.UTC(2030, 0, 1));
    expect([...now.rows.values()]).toEqual([{ atMs: START, values: { last_amount: 5 } }]);
    const past = await table([{ shop: 'a', id: 1, at: '2026-01-01T00:00:00.0001Z', amount: 5 }]);
    expect((await materialized(plain, past)).asOfMs).toBe(START + 1);
  });

  it('are found by what a request carries, through the transforms that the labels went through', async () => {
    const tidy = [set('shop', call('upper', call('trim', col('shop'))))];
    const secret = [...tidy, set('shop', hashed(col('shop')))];
    const small = featureView({ name: 'small', entity: 'shop', eventTime: 'at', features: { last_amount: 'amount' } });
    for (const transforms of [tidy, secret]) {
      const from = await table([{ shop: 'sfo ', at: '2026-01-01T00:00:00Z', amount: 5 }], transforms);
      const labels = await table([{ shop: ' Sfo', at: '2026-01-02T00:00:00Z' }], transforms);
      const { lookup, rows } = await trainingRows(labels, small, from);
      const online = await materialized(small, from);
      const read = createEntityReader(lookup, HASH_KEY)?.read({ shop: 'sFO' }, 0);
      expect(read).toEqual({ key: [...online.rows.keys()][0] });
      expect(rows).toEqual([{ last_amount: 5 }]);
      expect([...online.rows.values()][0]?.values).toEqual(rows[0]);
    }
  });

  it('tell integers apart that JSON numbers do not, and refuse those numbers', async () => {
    const by = featureView({ name: 'by', entity: 'id', eventTime: 'at', features: { n: over('1 day', 'count') } });
    const path = 'wide.jsonl';
    await writeFile(
      join(artifacts.folder, path),
      '{"id":9007199254740993,"at":"2026-01-01"}\n{"id":9007199254740992,"at":"2026-01-01"}\n{"id":9007199254740992,"at":"2026-01-01"}\n',
    );
    const from = await ingestSource({
      source: { format: 'jsonl', path, types: { id: 'integer', at: 'timestamp' } },
      name: 'data',
      artifacts,
      projectFolder: artifacts.folder,
    });
    const { lookup } = await trainingRows(from, by, from);
    const online = await materialized(by, from);
    const reader = createEntityReader(lookup);
    const countOf = (value: unknown): unknown => {
      const read = reader?.read({ id: value }, 0);
      return read !== undefined && 'key' in read && read.key !== null ? online.rows.get(read.key)?.values['n'] : read;
    };
    expect([countOf('9007199254740993'), countOf('9007199254740992')]).toEqual([1, 2]);
    expect(countOf(2 ** 53)).toMatchObject({ problems: [{ path: 'rows[0].id', column: 'id', fix: 'Send it as text.' }] });
    expect(reader?.read({}, 3)).toMatchObject({ problems: [{ path: 'rows[3].id', row: 3, column: 'id' }] });
    expect(reader?.read({ id: 1.5 }, 0)).toMatchObject({ problems: [{ column: 'id', found: 'number' }] });
    expect(reader?.read({ id: 'x' }, 0)).toMatchObject({ problems: [{ column: 'id', found: 'string' }] });
  });

  it('are of another definition when what is computed or the type of the entity differs, and of the same when only its words do', async () => {
    const from = await table([{ shop: 'a', id: 1, at: '2026-01-01T00:00:00Z', amount: 5 }]);
    const definition = featureDefinition(view, from.manifest);
    expect(featureDefinition({ ...view, owner: 'sales', description: 'other words' }, from.manifest)).toBe(definition);
    expect(featureDefinition({ ...view, ttlMs: 7_000 }, from.manifest)).not.toBe(definition);
    const retyped = { columns: from.manifest.columns.map((column) => (column.name === 'id' ? { ...column, type: 'string' as const } : column)) };
    expect(featureDefinition(view, retyped)).not.toBe(definition);
  });
});
