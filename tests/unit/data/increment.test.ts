import { mkdir, mkdtemp, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { call, col, keep, set } from '../../../contracts/row-transforms.ts';
import type { Source } from '../../../contracts/source.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { fingerprintSource } from '../../../data/fingerprint-source.ts';
import { type IncrementRule, incrementSettings } from '../../../data/increment.ts';
import { type IngestedDataset, ingestSource, type IngestOptions } from '../../../data/ingest.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let folder: string;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-increment-'));
  await mkdir(join(folder, 'days'));
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const file = (name: string, content: string): Promise<void> => writeFile(join(folder, name), content);
const FILES: IncrementRule = { by: 'files' };
const byId: IncrementRule = { by: 'watermark', column: 'id' };

/** Ingests; with what an earlier one made, goes on from it. */
function ingest(source: Source, rule: IncrementRule, from?: IngestedDataset, more: Partial<IngestOptions> = {}): Promise<IngestedDataset> {
  const settings = incrementSettings({ source, pii: {}, transforms: [...(more.transforms ?? [])], golden: more.golden, increment: rule });
  const base =
    from === undefined
      ? undefined
      : { id: from.ref.id, manifest: from.manifest, golden: from.golden === null ? null : { id: from.golden.ref.id, manifest: from.golden.manifest } };
  return ingestSource({
    source,
    name: 'data',
    artifacts,
    projectFolder: folder,
    home: folder,
    increment: { rule, settings, ...(base === undefined ? {} : { base }) },
    ...more,
  });
}

async function idsOf({ manifest }: Pick<IngestedDataset, 'manifest'>): Promise<readonly number[]> {
  const paths = await Promise.all(manifest.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
  return withDuckDb({}, async (db) => (await db.rows(`SELECT CAST(id AS DOUBLE) AS id FROM ${parquetRelation(paths)}`)).map(({ id }) => Number(id)));
}

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

const days: Source = { format: 'csv', path: 'days/*.csv' };

describe('an increment by files', () => {
  it('adds the new files to the snapshot, whose own file stays as it is', async () => {
    await file('days/1.csv', 'id,at\n1,2026-01-01\n2,2026-01-01\n');
    const first = await ingest(days, FILES);
    await file('days/2.csv', 'id,at\n3,2026-01-02\n');
    const second = await ingest(days, FILES, first);
    expect(second.added).toBe(1);
    expect(second.manifest).toMatchObject({ rows: 3, parents: [first.ref.id], profile: null });
    expect(second.manifest.files[0]).toEqual(first.manifest.files[0]);
    expect(await idsOf(second)).toEqual([1, 2, 3]);
    expect(second.manifest.increment).toMatchObject({ by: 'files', files: [{ label: 'days/1.csv' }, { label: 'days/2.csv' }] });
  });

  it('is the snapshot itself where no file is new, also when one is gone', async () => {
    await file('days/1.csv', 'id\n1\n');
    await file('days/2.csv', 'id\n2\n');
    const first = await ingest(days, FILES);
    expect((await ingest(days, FILES, first)).ref).toEqual(first.ref);
    await rm(join(folder, 'days/1.csv'));
    expect(await ingest(days, FILES, first)).toMatchObject({ ref: first.ref, added: 0, notes: ['days/1.csv that was read before is gone'] });
  });

  it('twice gives one snapshot, and files that come in another order give the same rows', async () => {
    await file('days/1.csv', 'id\n1\n');
    const first = await ingest(days, FILES);
    await file('days/3.csv', 'id\n3\n');
    const [one, two] = await Promise.all([ingest(days, FILES, first), ingest(days, FILES, first)]);
    expect(one.ref).toEqual(two.ref);
    await file('days/2.csv', 'id\n2\n');
    expect(await idsOf(await ingest(days, FILES, one))).toEqual([1, 3, 2]);
  });

  it('refuses files that were read and are others now, and names them all', async () => {
    await file('days/1.csv', 'id\n1\n');
    await file('days/2.csv', 'id\n2\n');
    const first = await ingest(days, FILES);
    await file('days/1.csv', 'id\n7\n');
    await file('days/2.csv', 'id\n8\n');
    const error = await refused(ingest(days, FILES, first));
    expect(error).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ file: 'days/1.csv' }, { file: 'days/2.csv' }] });
  });

  it('waits for a file that is still empty', async () => {
    await file('days/1.csv', 'id\n1\n');
    const first = await ingest(days, FILES);
    await file('days/2.csv', '');
    expect((await ingest(days, FILES, first)).ref).toEqual(first.ref);
    await file('days/2.csv', 'id\n2\n');
    expect((await ingest(days, FILES, first)).added).toBe(1);
  });

  it('reads new files in the types of the old ones, and refuses other columns and values that do not fit', async () => {
    await file('days/1.csv', 'id,code\n1,A7\n');
    const first = await ingest(days, FILES);
    await file('days/2.csv', 'id,code\n2,007\n');
    const second = await ingest(days, FILES, first);
    const paths = await Promise.all(second.manifest.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
    await withDuckDb({}, async (db) => expect(await db.rows(`SELECT code FROM ${parquetRelation(paths)}`)).toEqual([{ code: 'A7' }, { code: '007' }]));
    await file('days/3.csv', 'id\n3\n');
    expect(await refused(ingest(days, FILES, second))).toMatchObject({ code: 'COLUMN_MISSING', problems: [{ column: 'code' }] });
    await file('days/3.csv', 'id,code,more\n3,x,y\n');
    expect(await refused(ingest(days, FILES, second))).toMatchObject({ code: 'COLUMN_MISSING', problems: [{ column: 'more' }] });
    await file('days/3.csv', 'id,code\nthree,x\n');
    expect(await refused(ingest(days, FILES, second))).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ file: 'days/3.csv', column: 'id', row: 2 }] });
  });

  it('takes a key that new objects do not have for missing', async () => {
    const lines: Source = { format: 'jsonl', path: 'days/*.jsonl', types: { code: 'string' } };
    await file('days/1.jsonl', '{"id":1,"code":7,"when":"2026-01-01T00:00:00"}\n');
    const first = await ingest(lines, FILES);
    await file('days/2.jsonl', '{"id":2.0}\n{"id":3,"code":8}\n');
    const second = await ingest(lines, FILES, first);
    const paths = await Promise.all(second.manifest.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
    await withDuckDb({}, async (db) =>
      expect(await db.rows(`SELECT id, code, "when" IS NULL AS missing FROM ${parquetRelation(paths)}`)).toEqual([
        { id: 1n, code: '7', missing: false },
        { id: 2n, code: null, missing: true },
        { id: 3n, code: '8', missing: true },
      ]),
    );
    await file('days/3.jsonl', '{"id":2.5}\n');
    expect(await refused(ingest(lines, FILES, second))).toMatchObject({ code: 'COLUMN_TYPE', problems: [{ column: 'id' }] });
    await file('days/3.jsonl', '{"id":4,"more":1}\n');
    expect(await refused(ingest(lines, FILES, second))).toMatchObject({ code: 'COLUMN_MISSING', problems: [{ column: 'more' }] });
  });

  it('needs a source of files', async () => {
    const source: Source = { format: 'postgres', query: 'SELECT 1 AS id', connection: 'SOURCE_DATABASE_URL' };
    expect(await refused(ingest(source, FILES))).toMatchObject({ code: 'INVALID_PARAMETERS' });
  });
});

describe('an increment by a watermark', () => {
  const growing: Source = { format: 'csv', path: 'growing.csv' };

  it('adds the rows whose value is greater than all before; an equal one counts as read', async () => {
    await file('growing.csv', 'id,name\n1,a\n3,b\n');
    const first = await ingest(growing, byId);
    expect(first.manifest.increment).toMatchObject({ by: 'watermark', column: 'id', value: '3' });
    await file('growing.csv', 'id,name\n1,a\n3,b\n2,late\n3,equal\n5,c\n4,d\n');
    const second = await ingest(growing, byId, first);
    expect(await idsOf(second)).toEqual([1, 3, 5, 4]);
    expect(second.manifest).toMatchObject({ increment: { value: '5' }, parents: [first.ref.id] });
    expect((await ingest(growing, byId, second)).ref).toEqual(second.ref);
  });

  it.each([
    ['instants with microseconds', '2026-01-01 00:00:00.000001', '2026-01-01 00:00:00.000002'],
    ['dates', '2026-01-01', '2026-01-02'],
    ['fractions', '0.1', '0.30000000000000004'],
  ])('may be of %s', async (_what, one, two) => {
    await file('growing.csv', `id,at\n1,${one}\n`);
    const first = await ingest(growing, { by: 'watermark', column: 'at' });
    expect((await ingest(growing, { by: 'watermark', column: 'at' }, first)).ref).toEqual(first.ref);
    await file('growing.csv', `id,at\n1,${one}\n2,${two}\n`);
    const second = await ingest(growing, { by: 'watermark', column: 'at' }, first);
    expect(await idsOf(second)).toEqual([1, 2]);
    expect((await ingest(growing, { by: 'watermark', column: 'at' }, second)).ref).toEqual(second.ref);
  });

  it('refuses rows without a value, texts, and a column that is not there', async () => {
    await file('growing.csv', 'id,name\n1,a\n,b\n,c\n');
    expect(await refused(ingest(growing, byId))).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ column: 'id', found: '2 rows' }] });
    expect(await refused(ingest(growing, { by: 'watermark', column: 'name' }))).toMatchObject({ code: 'COLUMN_TYPE' });
    expect(await refused(ingest(growing, { by: 'watermark', column: 'none' }))).toMatchObject({ code: 'COLUMN_MISSING' });
  });

  it('goes by the source: a transform may drop the column or leave rows out', async () => {
    const transforms = [set('double', call('multiply', col('id'), 2)), keep(call('less', col('id'), 3))];
    await file('growing.csv', 'id\n1\n2\n');
    const first = await ingest(growing, byId, undefined, { transforms });
    await file('growing.csv', 'id\n1\n2\n3\n');
    const second = await ingest(growing, byId, first, { transforms });
    expect(second).toMatchObject({ added: 0, manifest: { rows: 2, files: first.manifest.files, increment: { value: '3' } } });
    expect((await ingest(growing, byId, second, { transforms })).ref).toEqual(second.ref);
  });
});

describe('an increment beside a golden set', () => {
  const golden = { fraction: 0.3, seed: 0 };
  const growing: Source = { format: 'csv', path: 'growing.csv' };
  const rows = (from: number, to: number): string => Array.from({ length: to - from }, (_, n) => `${from + n}\n`).join('');

  it('extends both: together they hold every row once, each where an ingest at once would put it', async () => {
    await file('growing.csv', `id\n${rows(0, 100)}`);
    const first = await ingest(growing, byId, undefined, { golden });
    await file('growing.csv', `id\n${rows(0, 200)}`);
    const second = await ingest(growing, byId, first, { golden });
    const whole = await ingest(growing, byId, undefined, { golden });
    expect(await idsOf(second)).toEqual(await idsOf(whole));
    expect(await idsOf(second.golden!)).toEqual(await idsOf(whole.golden!));
    expect(second.golden?.manifest.parents).toEqual([first.golden?.ref.id]);
    expect(second.manifest.golden).toBe(second.golden?.ref.id);
    expect((await ingest(growing, byId, second, { golden })).ref).toEqual(second.ref);
  });

  it('row by row: the golden set changes only when a row falls to it', async () => {
    await file('growing.csv', `id\n${rows(0, 50)}`);
    let last = await ingest(growing, byId, undefined, { golden });
    for (let n = 50; n < 60; n++) {
      await file('growing.csv', `id\n${rows(0, n + 1)}`);
      const next = await ingest(growing, byId, last, { golden });
      expect(next.ref.rows + next.golden!.ref.rows).toBe(n + 1);
      expect(next.golden?.ref.id === last.golden?.ref.id).toBe(next.ref.rows > last.ref.rows);
      last = next;
    }
  });
});

describe('a large file', () => {
  it('shows how much of it was read while it is compared, and stops when it is told to', async () => {
    await file('days/1.csv', `id\n${'1234567\n'.repeat(400_000)}`);
    const access = { projectFolder: folder, home: folder };
    const seen: number[] = [];
    await fingerprintSource(days, access, undefined, (label, fraction) => {
      expect(label).toContain('1.csv');
      seen.push(fraction);
    });
    expect(seen.length).toBeGreaterThan(2);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
    await rm(join(folder, 'source-hashes'), { recursive: true, force: true });
    const stop = new AbortController();
    const stopped = fingerprintSource(days, access, stop.signal, () => {
      stop.abort(new Error('enough'));
    });
    await expect(stopped).rejects.toThrow('enough');
  });
});

describe('a file that has not changed', () => {
  it('is not read again for its fingerprint', async () => {
    await file('days/1.csv', 'id\n1\n');
    const old = new Date(Date.now() - 60_000);
    await utimes(join(folder, 'days/1.csv'), old, old);
    // its entry changed just now: it is read until that is a while ago
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    const access = { projectFolder: folder, home: folder };
    const first = await fingerprintSource(days, access);
    const remembered = await stat(join(folder, 'source-hashes'));
    expect(remembered.isDirectory()).toBe(true);
    // what is remembered is what counts: were the file read, another hash would come out
    const { readdir, readFile } = await import('node:fs/promises');
    const [name = ''] = await readdir(join(folder, 'source-hashes'));
    const path = join(folder, 'source-hashes', name);
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace(/"sha256":"[0-9a-f]{64}"/, `"sha256":"${'0'.repeat(64)}"`));
    expect((await fingerprintSource(days, access)).sha256).not.toBe(first.sha256);
    await writeFile(path, text);
    expect(await fingerprintSource(days, access)).toEqual(first);
    await file('days/1.csv', 'id\n2\n');
    await utimes(join(folder, 'days/1.csv'), old, old);
    expect((await fingerprintSource(days, access)).sha256).not.toBe(first.sha256);
  });
});
