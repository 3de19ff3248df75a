import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ErrorCode, MillraceError } from '../../../contracts/errors.ts';
import { call, col, drop, hashed, keep, set } from '../../../contracts/row-transforms.ts';
import type { Source } from '../../../contracts/source.ts';
import { cleanDataset } from '../../../data/clean.ts';
import type { StoredDataset } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { fingerprintSource } from '../../../data/fingerprint-source.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { readColumns } from '../../../data/read-columns.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let folder: string;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-ingest-'));
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const file = async (name: string, content: string | Buffer): Promise<void> => writeFile(join(folder, name), content);
const ingest = (source: Source, more: Partial<Parameters<typeof ingestSource>[0]> = {}): Promise<StoredDataset> =>
  ingestSource({ source, name: 'data', artifacts, projectFolder: folder, ...more });
const fromPackage = (
  path: string,
  more: Partial<Parameters<typeof ingestSource>[0]> = {},
  format: 'parquet' | 'csv' | 'jsonl' = 'csv',
): Promise<StoredDataset> => ingest({ format, path: `package:vega-datasets/data/${path}` }, { projectFolder: process.cwd(), ...more });

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('a source', () => {
  it('becomes a snapshot of the same bytes whatever the number of threads', async () => {
    const transforms = [set('delayed', call('greater', col('delay'), 15))];
    const one = await fromPackage('flights-3m.parquet', { threads: 1, transforms, sampleRows: 200_000, seed: 4 }, 'parquet');
    const two = await fromPackage('flights-3m.parquet', { threads: 2, transforms, sampleRows: 200_000, seed: 4 }, 'parquet');
    expect(one.ref).toEqual(two.ref);
    expect(one.manifest.rows).toBe(200_000);
    expect(one.manifest.columns.at(-1)).toEqual({ name: 'delayed', type: 'boolean' });
    expect(one.manifest.rawColumns.map(({ name }) => name)).toEqual(['date', 'delay', 'distance', 'origin', 'destination']);
  });

  it('is read from CSV with the types that its values have', async () => {
    const { manifest } = await fromPackage('airports.csv');
    expect(manifest.rows).toBe(3376);
    expect(Object.fromEntries(manifest.columns.map(({ name, type }) => [name, type]))).toMatchObject({ iata: 'string', latitude: 'number' });
  });

  it('is read from CSV with delimiter, header, null values, types and encoding as stated', async () => {
    await file('stated.csv', Buffer.from('1;caf\xe9;n/a\n2;x;3,5\n', 'latin1'));
    const source: Source = {
      format: 'csv',
      path: 'stated.csv',
      delimiter: ';',
      header: ['id', 'name', 'price'],
      nullValues: ['n/a'],
      types: { id: 'string' },
      encoding: 'latin-1',
    };
    const { manifest } = await ingest(source);
    const table = await readColumns([await artifacts.pathOf(manifest.files[0]!.sha256)], ['id', 'name', 'price']);
    expect(table.columns.get('name')).toEqual({ kind: 'string', codes: Int32Array.of(0, 1), dictionary: ['café', 'x'] });
    expect(table.columns.get('id')).toMatchObject({ dictionary: ['1', '2'] });
    expect(table.columns.get('price')).toMatchObject({ codes: Int32Array.of(-1, 0), dictionary: ['3,5'] });
  });

  it('is read from tab-separated values without being told', async () => {
    expect((await fromPackage('unemployment.tsv')).manifest.columns).toEqual([
      { name: 'id', type: 'integer' },
      { name: 'rate', type: 'number' },
    ]);
  });

  it('is read from JSON, ten thousand flights of it', async () => {
    const { manifest } = await fromPackage('flights-10k.json', {}, 'jsonl');
    expect(manifest.rows).toBe(10_000);
    expect(manifest.columns.map(({ name }) => name)).toEqual(['date', 'delay', 'distance', 'origin', 'destination']);
  });

  it('is read from texts, one row a file, in the order of their paths', async () => {
    await mkdir(join(folder, 'mail/spam'), { recursive: true });
    await mkdir(join(folder, 'mail/ham'), { recursive: true });
    await file('mail/spam/2.txt', 'buy');
    await file('mail/ham/1.txt', Buffer.from('caf\xe9', 'latin1'));
    const { manifest } = await ingest({ format: 'text', path: 'mail/*/*.txt', encoding: 'latin-1' });
    const table = await readColumns([await artifacts.pathOf(manifest.files[0]!.sha256)], ['path', 'folder', 'text']);
    const cells = [...table.columns.values()].map((column) => (column.kind === 'string' ? Array.from(column.codes, (code) => column.dictionary[code]) : []));
    expect(cells).toEqual([
      ['ham/1.txt', 'spam/2.txt'],
      ['ham', 'spam'],
      ['café', 'buy'],
    ]);
    await file('mail/ham/1.txt', Buffer.from('caf\xe9, caf\xc3\xa9', 'latin1'));
    expect((await refused(ingest({ format: 'text', path: 'mail/*/*.txt' }))).problems[0]).toMatchObject({ file: 'mail/ham/1.txt', row: 1 });
  });

  it('is transformed before anything is written: a hashed column is nowhere in the artifacts', async () => {
    await file('people.csv', 'mail,age\nsomebody@example.org,30\n');
    const { manifest } = await ingest({ format: 'csv', path: 'people.csv' }, { transforms: [set('mail', hashed(col('mail')))], hashKey: 'secret key' });
    for (const { sha256 } of manifest.files) {
      const bytes = await readFile(await artifacts.pathOf(sha256));
      expect(bytes.includes('somebody')).toBe(false);
    }
    expect(JSON.stringify(manifest)).not.toContain('secret key');
  });

  it('has a fingerprint of its content and settings, not of its place', async () => {
    const other = await mkdtemp(join(tmpdir(), 'millrace-other-'));
    await file('same.csv', 'a\n1\n');
    await writeFile(join(other, 'same.csv'), 'a\n1\n');
    const source: Source = { format: 'csv', path: 'same.csv' };
    const here = await fingerprintSource(source, { projectFolder: folder });
    expect(await fingerprintSource(source, { projectFolder: other })).toEqual(here);
    expect((await fingerprintSource({ ...source, delimiter: ';' }, { projectFolder: folder })).sha256).not.toBe(here.sha256);
    await writeFile(join(other, 'same.csv'), 'a\n2\n');
    expect((await fingerprintSource(source, { projectFolder: other })).sha256).not.toBe(here.sha256);
    await rm(other, { recursive: true });
  });

  it('stops when it is told to, and leaves no temporary file', async () => {
    const stop = new AbortController();
    const work = fromPackage('flights-3m.parquet', { signal: stop.signal }, 'parquet');
    setTimeout(() => stop.abort(new Error('cancelled')), 20);
    await expect(work).rejects.toThrow('cancelled');
    const { readdir } = await import('node:fs/promises');
    expect(await readdir(join(artifacts.folder, 'temporary'))).toEqual([]);
  });
});

describe('a source that is bad', () => {
  const repeated = (row: string, times: number): string => `${row}\n`.repeat(times);
  const cases: readonly {
    readonly what: string;
    readonly source: Source;
    readonly content?: string | Buffer;
    readonly code: ErrorCode;
    readonly place?: object;
    readonly says?: RegExp;
  }[] = [
    { what: 'an empty file', source: { format: 'csv', path: 'bad0.csv' }, content: '', code: 'SOURCE_EMPTY' },
    { what: 'a header without rows', source: { format: 'csv', path: 'bad1.csv' }, content: 'a,b\n', code: 'SOURCE_EMPTY' },
    { what: 'an empty JSON file', source: { format: 'jsonl', path: 'bad2.jsonl' }, content: '\n', code: 'SOURCE_EMPTY' },
    {
      what: 'a row with too few fields',
      source: { format: 'csv', path: 'bad3.csv' },
      content: 'a,b,c\n1,2,3\n4,5\n',
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad3.csv', row: 3 },
      says: /2 fields.*3/,
    },
    {
      what: 'a row with too many fields, far down',
      source: { format: 'csv', path: 'bad4.csv' },
      content: `a,b\n${repeated('1,2', 30_000)}1,2,3\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad4.csv', row: 30_002 },
    },
    {
      what: 'a column that changes its type, far down',
      source: { format: 'csv', path: 'bad5.csv' },
      content: `a,b\n${repeated('1,2', 30_000)}1,Secret7\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad5.csv', row: 30_002, column: 'b', found: 'Xxxxxx9' },
    },
    {
      what: 'a quote that does not end',
      source: { format: 'csv', path: 'bad6.csv' },
      content: 'a,b\n"1,2\n3,4\n',
      code: 'SOURCE_MALFORMED',
      place: { row: 2 },
    },
    {
      what: 'two columns of one name',
      source: { format: 'csv', path: 'bad7.csv' },
      content: 'a,b,A\n1,2,3\n',
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad7.csv', column: 'A' },
    },
    {
      what: 'NUL bytes',
      source: { format: 'csv', path: 'bad8.csv' },
      content: 'a,b\n1,2\n3,x\0y\n',
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad8.csv', row: 3 },
    },
    {
      what: 'two encodings in one file',
      source: { format: 'csv', path: 'bad9.csv' },
      content: Buffer.from('a,b\n1,caf\xc3\xa9\n2,caf\xe9\n', 'latin1'),
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad9.csv', row: 3, column: 'b' },
      says: /UTF-8/,
    },
    {
      what: 'a line that is not JSON',
      source: { format: 'jsonl', path: 'bad10.jsonl' },
      content: '{"a":1}\n{"a":\n{"a":3}\n',
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad10.jsonl', row: 2 },
    },
    { what: 'JSON lines that are no objects', source: { format: 'jsonl', path: 'bad11.jsonl' }, content: '{"a":1}\n[1]\n', code: 'SOURCE_MALFORMED' },
    {
      what: 'an object that names a column twice',
      source: { format: 'jsonl', path: 'bad12.jsonl' },
      content: '{"a":1,"a":2}\n',
      code: 'SOURCE_MALFORMED',
      place: { row: 1, column: 'a' },
    },
    {
      what: 'a file that is not Parquet',
      source: { format: 'parquet', path: 'bad13.parquet' },
      content: 'PAR1 is not enough PAR1',
      code: 'SOURCE_MALFORMED',
      place: { file: 'bad13.parquet' },
    },
    { what: 'a file that does not exist', source: { format: 'csv', path: 'nowhere.csv' }, code: 'SOURCE_NOT_FOUND' },
    { what: 'a glob that matches nothing', source: { format: 'csv', path: '*.nothing' }, code: 'SOURCE_NOT_FOUND' },
    { what: 'a package that is not installed', source: { format: 'csv', path: 'package:no-such-package-here/a.csv' }, code: 'SOURCE_NOT_FOUND' },
    { what: 'a path that leads out of the project', source: { format: 'csv', path: '../out.csv' }, code: 'SOURCE_NOT_FOUND', says: /leads out/ },
    {
      what: 'types of columns that are not there',
      source: { format: 'csv', path: 'bad14.csv', types: { z: 'number' } },
      content: 'a\n1\n',
      code: 'COLUMN_MISSING',
      says: /./,
    },
  ];

  it.each(cases)('is refused with its place: $what', async ({ source, content, code, place, says }) => {
    if (content !== undefined && 'path' in source && typeof source.path === 'string') await file(source.path, content);
    const error = await refused(ingest(source));
    expect(error.code).toBe(code);
    if (place !== undefined) expect(error.problems[0]).toMatchObject(place);
    if (says !== undefined) expect(error.message).toMatch(says);
    // Neither the driver's words nor a path of the machine, nor a value, may be in what is shown.
    expect(JSON.stringify(error.report())).not.toMatch(/LINE 1|strict_mode|Invalid Input Error|Secret7|millrace-ingest/);
  });

  it('is refused with its place: a Parquet file that was cut off', async () => {
    const whole = await readFile('node_modules/vega-datasets/data/flights-3m.parquet');
    await file('cut.parquet', whole.subarray(0, 500_000));
    expect((await refused(ingest({ format: 'parquet', path: 'cut.parquet' }))).problems[0]).toMatchObject({ file: 'cut.parquet' });
  });

  it('is refused where a Parquet file is damaged in the middle', async () => {
    const damaged = Buffer.from(await readFile('node_modules/vega-datasets/data/flights-3m.parquet'));
    damaged.fill(0xff, 100_000, 200_000);
    await file('damaged.parquet', damaged);
    expect((await refused(ingest({ format: 'parquet', path: 'damaged.parquet' }))).code).toBe('SOURCE_MALFORMED');
  });

  it('is refused where a link leads out of the project', async () => {
    const secret = await mkdtemp(join(tmpdir(), 'millrace-secret-'));
    await writeFile(join(secret, 's.csv'), 'a\n1\n');
    await symlink(join(secret, 's.csv'), join(folder, 'link.csv'));
    await symlink(secret, join(folder, 'linked'));
    for (const path of ['link.csv', 'linked/*.csv', 'linked/s.csv']) expect((await refused(ingest({ format: 'csv', path }))).message).toContain('leads out');
    expect((await ingest({ format: 'csv', path: join(secret, 's.csv') })).manifest.rows).toBe(1);
    await rm(secret, { recursive: true });
  });

  it('is refused where the files of a glob have other columns', async () => {
    await file('many-1.csv', 'a,b\n1,2\n');
    await file('many-2.csv', 'a,c\n1,2\n');
    expect((await refused(ingest({ format: 'csv', path: 'many-*.csv' }))).message).toMatch(/same columns.*many-2\.csv/);
  });

  it('is refused where the transforms keep no row', async () => {
    await file('kept.csv', 'a\n1\n');
    expect((await refused(ingest({ format: 'csv', path: 'kept.csv' }, { transforms: [keep(call('greater', col('a'), 5))] }))).code).toBe('SOURCE_EMPTY');
  });
});

describe('clean', () => {
  it('adds its transforms behind those of the dataset and keeps what raw rows look like', async () => {
    await file('clean.csv', 'a,b\n1, x \n2,y\n');
    const raw = await ingest({ format: 'csv', path: 'clean.csv' }, { transforms: [set('c', call('add', col('a'), 1))] });
    const { dataset: cleaned } = await cleanDataset({
      manifest: raw.manifest,
      id: raw.ref.id,
      rules: [set('b', call('trim', col('b'))), drop('a')],
      artifacts,
    });
    expect(cleaned.manifest.transforms).toHaveLength(3);
    expect(cleaned.manifest.rawColumns.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(cleaned.manifest.parents).toEqual([raw.ref.id]);
    const path = await artifacts.pathOf(cleaned.manifest.files[0]!.sha256);
    expect(await withDuckDb({}, (db) => db.rows(`SELECT * FROM read_parquet('${path}')`))).toEqual([
      { b: 'x', c: 2 },
      { b: 'y', c: 3 },
    ]);
    expect(
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    ).toBe(cleaned.manifest.files[0]!.sha256);
  });
});
