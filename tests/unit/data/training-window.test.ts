import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WindowRuleSchema } from '../../../contracts/training-window.ts';
import type { StoredDataset } from '../../../data/dataset.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { trainingWindow } from '../../../data/training-window.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';
import { readDataset } from '../../support/read-dataset.ts';

const DAY_MS = 86_400_000;
let artifacts: FileArtifacts;
let orders: StoredDataset;
const csv = async (name: string, content: string): Promise<StoredDataset> => {
  await writeFile(join(artifacts.folder, `${name}.csv`), content);
  return ingestSource({ source: { format: 'csv', path: `${name}.csv` }, name, artifacts, projectFolder: artifacts.folder });
};
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  // not in the order of time; two of one instant; one without
  orders = await csv(
    'orders',
    `id,at,day,tick
1,2026-03-05T00:00:00Z,2026-03-05,5
2,2026-03-01T00:00:00Z,2026-03-01,1
3,2026-03-04T00:00:00Z,2026-03-04,4
4,2026-03-04T00:00:00Z,2026-03-04,4
5,,,
6,2026-03-02T12:00:00Z,2026-03-02,2.5
`,
  );
});
afterAll(() => artifacts.remove());

const cut = (rule: object, of = orders) => trainingWindow({ manifest: of.manifest, id: of.ref.id, rule: WindowRuleSchema.parse(rule), artifacts });
const idsOf = async (rule: object): Promise<number[]> => (await readDataset(artifacts, (await cut(rule)).dataset.ref)).map(({ id }) => Number(id));

describe('the rows that are trained on', () => {
  it('are the dataset itself by the rule all, and where no change point is known', async () => {
    expect((await cut({ rule: 'all' })).dataset.ref).toEqual(orders.ref);
    expect((await cut({ rule: 'sinceChange', column: 'at', changePoint: null })).dataset.ref).toEqual(orders.ref);
  });

  it.each([
    ['so many days back from the newest row', { column: 'at', length: { ms: 2 * DAY_MS } }, [1, 3, 4]],
    ['one that is just as old as the window is long is out', { column: 'at', length: { ms: DAY_MS } }, [1]],
    ['days of a column of dates', { column: 'day', length: { ms: 4 * DAY_MS } }, [1, 3, 4, 6]],
    ['of a column of numbers its own unit', { column: 'tick', length: { ms: 2.5 } }, [1, 3, 4]],
    ['a number of rows: of one instant the later in the file', { column: 'at', length: { rows: 2 } }, [1, 4]],
    ['more rows than there are', { column: 'at', length: { rows: 50 } }, [1, 2, 3, 4, 6]],
  ])('slide: %s', async (_, rule, expected) => {
    expect(await idsOf({ rule: 'sliding', ...rule })).toEqual(expected);
  });

  it.each([
    ['with the row of that instant', { column: 'at', changePoint: '2026-03-04T00:00:00Z' }, [1, 3, 4]],
    ['whose offset is minded', { column: 'at', changePoint: '2026-03-04T01:00:00+02:00' }, [1, 3, 4]],
    ['as a day', { column: 'day', changePoint: '2026-03-04' }, [1, 3, 4]],
    ['as a number', { column: 'tick', changePoint: '2.5' }, [1, 3, 4, 6]],
    ['or the newest so many where fewer follow it', { column: 'at', changePoint: '2026-03-05', leastRows: 3 }, [1, 3, 4]],
  ])('begin at a change point, %s', async (_, rule, expected) => {
    expect(await idsOf({ rule: 'sinceChange', ...rule })).toEqual(expected);
  });

  it('have weights that halve with age, in time or in rows, and those that weigh too little are left out', async () => {
    const weightsOf = async (rule: object): Promise<(number | undefined)[][]> =>
      (await readDataset(artifacts, (await cut({ rule: 'weighted', ...rule })).dataset.ref)).map((row) => [Number(row['id']), row['weight'] as number]);
    const byTime = await weightsOf({ column: 'at', halfLife: { ms: 2 * DAY_MS } });
    const expected = [5, 1, 4, 4, 2.5].map((day) => 2 ** (-(5 - day) / 2));
    expect(byTime.map(([id]) => id)).toEqual([1, 2, 3, 4, 6]);
    byTime.forEach(([, weight], row) => expect(weight).toBeCloseTo(expected[row] ?? Number.NaN, 12));
    expect(await weightsOf({ column: 'at', halfLife: { rows: 1 } })).toEqual([
      [1, 1],
      [2, 1 / 16],
      [3, 1 / 4],
      [4, 1 / 2],
      [6, 1 / 8],
    ]);
    expect((await weightsOf({ column: 'at', halfLife: { rows: 1 }, leastWeight: 0.2 })).map(([id]) => id)).toEqual([1, 3, 4]);
  });

  it('are a snapshot that says what it comes from, what was left out, and what no request has; the same again has the same name', async () => {
    const rule = { rule: 'weighted', column: 'at', halfLife: { rows: 2 }, weightColumn: 'importance' };
    const first = await cut(rule);
    expect(first).toMatchObject({ undated: 1, from: '2026-03-01 00:00:00', to: '2026-03-05 00:00:00' });
    expect(first.dataset.manifest).toMatchObject({ parents: [orders.ref.id], rows: 5, unserved: { importance: 'a training window' } });
    expect(first.dataset.manifest.profile).not.toBeNull();
    expect((await cut(rule)).dataset.ref).toEqual(first.dataset.ref);
  });

  it.each([
    ['COLUMN_MISSING', { rule: 'sliding', column: 'when', length: { rows: 1 } }],
    ['INVALID_PARAMETERS', { rule: 'weighted', column: 'at', halfLife: { rows: 1 }, weightColumn: 'id' }],
    ['INVALID_PARAMETERS', { rule: 'sinceChange', column: 'at', changePoint: 'last Tuesday' }],
  ])('are refused with %s where the rule does not fit the data', async (code, rule) => {
    await expect(cut(rule)).rejects.toMatchObject({ code });
  });

  it('are refused where no row has a value in the column', async () => {
    await writeFile(join(artifacts.folder, 'undated.csv'), 'id,at\n1,\n2,\n');
    const undated = await ingestSource({
      source: { format: 'csv', path: 'undated.csv', types: { at: 'timestamp' } },
      name: 'undated',
      artifacts,
      projectFolder: artifacts.folder,
    });
    await expect(cut({ rule: 'sinceChange', column: 'at', changePoint: '2027-01-01' }, undated)).rejects.toMatchObject({ code: 'SOURCE_EMPTY' });
  });

  it('are refused where texts should order them', async () => {
    await expect(cut({ rule: 'sliding', column: 'name', length: { rows: 1 } }, await csv('named', 'name,n\na,1\nb,2\n'))).rejects.toMatchObject({
      code: 'COLUMN_TYPE',
    });
  });
});
