import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FeatureView } from '../../../contracts/feature-views.ts';
import { call, col } from '../../../contracts/row-transforms.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { joinTrainingSet } from '../../../data/feature-views.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { featureView, over } from '../../../workflows/feature-view.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let files = 0;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
});
afterAll(() => artifacts.remove());

async function table(lines: readonly string[]): Promise<StoredDataset> {
  const path = `t${String(files++)}.csv`;
  await writeFile(join(artifacts.folder, path), `${lines.join('\n')}\n`);
  return ingestSource({
    source: {
      format: 'csv',
      path,
      types: { customer: 'string', at: 'timestamp', ...(lines[0]?.split(',').includes('amount') === true ? { amount: 'number' as const } : {}) },
    },
    name: 'data',
    artifacts,
    projectFolder: artifacts.folder,
  });
}

function join2(
  labels: StoredDataset,
  view: FeatureView,
  from: StoredDataset,
  more: { threads?: number; features?: readonly string[] } = {},
): Promise<StoredDataset> {
  return joinTrainingSet({
    labels: labels.manifest,
    labelsId: labels.ref.id,
    eventTime: 'at',
    views: [{ view, manifest: from.manifest, id: from.ref.id }],
    artifacts,
    ...more,
  });
}

async function read({ manifest }: StoredDataset): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const paths = (await datasetFiles(artifacts, manifest)).map(({ path }) => path);
  const rows = await withDuckDb({}, (db) => db.rows(`SELECT * FROM ${parquetRelation(paths)}`));
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, typeof value === 'bigint' ? Number(value) : value])));
}

const instant = (second: number | null): string => (second === null ? '' : new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString());

const view = featureView({
  name: 'spending',
  entity: 'customer',
  eventTime: 'at',
  features: {
    last_amount: 'amount',
    doubled: call('multiply', col('amount'), 2),
    rows_5s: over('5 seconds', 'count'),
    paid_5s: over('5 seconds', 'count', 'amount'),
    sum_5s: over('5 seconds', 'sum', 'amount'),
    mean_9s: over('9 seconds', 'mean', 'amount'),
    min_9s: over('9 seconds', 'min', 'amount'),
    max_9s: over('9 seconds', 'max', 'amount'),
    newest_9s: over('9 seconds', 'last', 'amount'),
  },
  ttl: '6 seconds',
});

interface Event {
  readonly customer: string | null;
  readonly second: number | null;
  readonly amount: number | null;
}

/** The semantics of contracts/feature-views.ts, read aloud. */
function naive(events: readonly Event[], label: Pick<Event, 'customer' | 'second'>): Readonly<Record<string, number | null>> {
  const { customer, second } = label;
  if (customer === null || second === null) return Object.fromEntries(Object.keys(view.features).map((name) => [name, null]));
  const mine = events
    .flatMap((event, row) => (event.customer === customer && event.second !== null && event.second <= second ? [{ ...event, second: event.second, row }] : []))
    .sort((a, b) => a.second - b.second || a.row - b.row);
  const last = mine.at(-1);
  const value = last !== undefined && second - last.second <= 6 ? last.amount : null;
  const window = (seconds: number): number[] => mine.flatMap((event) => (event.second > second - seconds && event.amount !== null ? [event.amount] : []));
  const sum = (values: readonly number[]): number => values.reduce((total, one) => total + one, 0);
  const [five, nine] = [window(5), window(9)];
  return {
    last_amount: value,
    doubled: value === null ? null : value * 2,
    rows_5s: mine.filter((event) => event.second > second - 5).length,
    paid_5s: five.length,
    sum_5s: five.length === 0 ? null : sum(five),
    mean_9s: nine.length === 0 ? null : sum(nine) / nine.length,
    min_9s: nine.length === 0 ? null : Math.min(...nine),
    max_9s: nine.length === 0 ? null : Math.max(...nine),
    newest_9s: nine.at(-1) ?? null,
  };
}

const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(value, { freq: 8, nil: null });
const customer = maybe(fc.constantFrom('a', 'b', 'c'));
const second = maybe(fc.integer({ min: -20, max: 20 }));

describe('a point-in-time join', () => {
  it('gives what reading the history row by row gives, of no later instant, whatever the order, ties and nulls', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ customer, second, amount: maybe(fc.integer({ min: -50, max: 50 })) }), { minLength: 1, maxLength: 40 }),
        fc.array(fc.record({ customer, second }), { minLength: 1, maxLength: 15 }),
        async (events, asked) => {
          const from = await table([
            'customer,at,amount,n',
            ...events.map((event, n) => `${event.customer ?? ''},${instant(event.second)},${event.amount ?? ''},${String(n)}`),
          ]);
          const labels = await table(['customer,at,label', ...asked.map((label, n) => `${label.customer ?? ''},${instant(label.second)},${String(n)}`)]);
          const found = await read(await join2(labels, view, from));
          expect(found.map(({ customer: _customer, at: _at, ...row }) => row)).toEqual(asked.map((label, n) => ({ label: n, ...naive(events, label) })));
        },
      ),
      { numRuns: 25 },
    );
  }, 120_000);

  it('has the same bytes with one thread and with four, and the labels as its first parent', async () => {
    const event = (n: number): string => `c${String((n * 7919) % 50)},${instant((n * 104_729) % 3_000)},${String(((n * 31) % 97) / 7)}`;
    const from = await table(['customer,at,amount', ...Array.from({ length: 20_000 }, (_, n) => event(n))]);
    const labels = await table(['customer,at,amount_due', ...Array.from({ length: 3_000 }, (_, n) => event(n + 5))]);
    const one = await join2(labels, view, from, { threads: 1 });
    const four = await join2(labels, view, from, { threads: 4 });
    expect(four.ref).toEqual(one.ref);
    expect(one.manifest.parents).toEqual([labels.ref.id, from.ref.id]);
    expect(one.manifest.rawColumns.slice(-9)).toEqual(one.manifest.columns.slice(-9));
  });

  it('adds the features asked for, in their order', async () => {
    const from = await table(['customer,at,amount', `a,${instant(1)},5`]);
    const labels = await table(['customer,at,label', `a,${instant(1)},1`, `a,${instant(0)},0`]);
    const found = await read(await join2(labels, view, from, { features: ['sum_5s', 'last_amount'] }));
    expect(found.map(({ at: _at, ...row }) => Object.entries(row))).toEqual([
      [
        ['customer', 'a'],
        ['label', 1],
        ['sum_5s', 5],
        ['last_amount', 5],
      ],
      [
        ['customer', 'a'],
        ['label', 0],
        ['sum_5s', null],
        ['last_amount', null],
      ],
    ]);
  });

  it('refuses features that are not there, are there already, or have no instant to be taken at', async () => {
    const from = await table(['customer,at,amount', `a,${instant(1)},5`]);
    const labels = await table(['customer,at,last_amount', `a,${instant(1)},1`]);
    await expect(join2(labels, view, from, { features: ['last_amount', 'sum'] })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ found: 'last_amount' }, { found: 'sum' }],
    });
    await expect(join2(labels, { ...view, entity: ['shop'] }, from, { features: ['sum_5s'] })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
    await expect(join2(labels, { ...view, eventTime: 'amount' }, from, { features: ['sum_5s'] })).rejects.toMatchObject({ code: 'COLUMN_TYPE' });
  });
});
