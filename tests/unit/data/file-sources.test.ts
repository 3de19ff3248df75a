import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ErrorCode, MillraceError } from '../../../contracts/errors.ts';
import { type SourceInput, SourceSchema } from '../../../contracts/source.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { type SqlRow, withDuckDb } from '../../../data/duckdb.ts';
import { type IngestedDataset, ingestSource } from '../../../data/ingest.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';
import { zstdFrame } from '../../support/zstd-frame.ts';

let artifacts: FileArtifacts;
let folder: string;
beforeEach(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-files-'));
});
afterEach(async () => {
  // Whatever happened: nothing half-made is left.
  expect(await readdir(join(artifacts.folder, 'temporary'))).toEqual([]);
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const file = (name: string, content: string | Buffer): Promise<void> => writeFile(join(folder, name), content);
type Ingest = Partial<Omit<Parameters<typeof ingestSource>[0], 'source'>>;
const ingest = (source: SourceInput, more: Ingest = {}): Promise<IngestedDataset> =>
  ingestSource({ source: SourceSchema.parse(source), name: 'data', artifacts, projectFolder: folder, ...more });
async function rows(dataset: StoredDataset, sql = '*'): Promise<readonly SqlRow[]> {
  const paths = (await datasetFiles(artifacts, dataset.manifest)).map(({ path }) => path);
  return withDuckDb({}, (db) => db.rows(`SELECT ${sql} FROM ${parquetRelation(paths)}`));
}
async function refused(source: SourceInput, more: Ingest = {}): Promise<MillraceError> {
  const before = await readdir(artifacts.folder);
  const error: unknown = await ingest(source, more).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(MillraceError);
  expect(await readdir(artifacts.folder)).toEqual(before);
  const said = JSON.stringify((error as MillraceError).report());
  expect(said).not.toMatch(/millrace-files|millrace-artifacts|LINE 1|Invalid Input Error|CSV Error|read_csv/);
  return error as MillraceError;
}

describe('files of every format', () => {
  const table = [
    { id: 1, name: 'café' },
    { id: 2, name: 'a "b", c' },
  ];
  const csv = 'id,name\n1,café\n2,"a ""b"", c"\n';
  const contents: readonly { readonly name: string; readonly source: Omit<Extract<SourceInput, { path: unknown }>, 'path'>; readonly text: string }[] = [
    { name: 'a.csv', source: { format: 'csv' }, text: csv },
    { name: 'a.tsv', source: { format: 'tsv' }, text: 'id\tname\n1\tcafé\n2\t"a ""b"", c"\n' },
    { name: 'b.tsv', source: { format: 'csv' }, text: 'id\tname\n1\tcafé\n2\t"a ""b"", c"\n' },
    { name: 'a.json', source: { format: 'json' }, text: JSON.stringify(table, null, 2) },
    { name: 'b.json', source: { format: 'json' }, text: table.map((row) => JSON.stringify(row, null, 1)).join('') },
    { name: 'a.jsonl', source: { format: 'jsonl' }, text: table.map((row) => JSON.stringify(row)).join('\n') },
  ];

  it.each(contents)('are read plain, packed, and in any encoding: $name', async ({ name, source, text }) => {
    const bytes: Record<string, Buffer> = {
      [name]: Buffer.from(text),
      [`${name}.gz`]: gzipSync(text),
      [`${name}.zst`]: zstdFrame(text),
      [`bom-${name}`]: Buffer.from(`\ufeff${text}`),
      [`latin1-${name}`]: Buffer.from(text, 'latin1'),
      [`latin1-${name}.gz`]: gzipSync(Buffer.from(text, 'latin1')),
      [`le-${name}`]: Buffer.from(text, 'utf16le'),
      [`le-bom-${name}`]: Buffer.from(`\ufeff${text}`, 'utf16le'),
      [`be-${name}`]: Buffer.from(text, 'utf16le').swap16(),
      [`be-bom-${name}.gz`]: gzipSync(Buffer.from(`\ufeff${text}`, 'utf16le').swap16()),
    };
    const wanted = table.map(({ id, name: value }) => ({ id: BigInt(id), name: value }));
    for (const [path, content] of Object.entries(bytes)) {
      await file(path, content);
      const dataset = await ingest({ ...source, path });
      expect(await rows(dataset), path).toEqual(wanted);
      const told = /^latin1/.test(path) ? 'latin-1' : /^(?:le|be)/.test(path) ? 'UTF-16' : undefined;
      expect(dataset.notes).toEqual(told === undefined ? [] : [expect.stringContaining(told)]);
    }
    for (const [path, encoding] of [
      [`latin1-${name}`, 'latin-1'],
      [`le-${name}`, 'utf-16'],
      [`be-bom-${name}.gz`, 'utf-16'],
      [`be-${name}`, 'utf-16be'],
    ] as const) {
      const dataset = await ingest({ ...source, path, encoding });
      expect(await rows(dataset)).toEqual(wanted);
      expect(dataset.notes).toEqual([]);
    }
  });

  it('are texts too: packed, and each in its own encoding', async () => {
    await mkdir(join(folder, 'mail'));
    await file('mail/1.txt', 'plain café');
    await file('mail/2.txt.gz', gzipSync('packed\ntext\n'));
    await file('mail/3.txt.zst', zstdFrame('packed\nbetter\n'));
    await file('mail/4.txt', Buffer.from('“café”', 'utf16le'));
    await file('mail/5.txt', Buffer.from([0x93, 0x63, 0x61, 0x66, 0xe9, 0x94]));
    await file('mail/6.txt', '');
    const dataset = await ingest({ format: 'text', path: 'mail' });
    expect((await rows(dataset, 'text')).map(({ text }) => text)).toEqual(['plain café', 'packed\ntext\n', 'packed\nbetter\n', '“café”', '“café”', '']);
    expect(dataset.notes.join()).toMatch(/utf-16le.*windows-1252/);
  });

  it('are all those of a folder, and of the folders in it', async () => {
    await mkdir(join(folder, 'in/2024'), { recursive: true });
    await file('in/b.csv', 'a\n2\n');
    await file('in/2024/a.csv.gz', gzipSync('a\n1\n'));
    await file('in/notes.md', 'no table');
    await file('in/.hidden.csv', 'b\n9\n');
    expect((await rows(await ingest({ format: 'csv', path: 'in' }))).map(({ a }) => a)).toEqual([1n, 2n]);
    expect((await rows(await ingest({ format: 'csv', path: 'in/' }))).length).toBe(2);
    const none = await refused({ format: 'jsonl', path: 'in' });
    expect([none.code, none.message]).toEqual(['SOURCE_NOT_FOUND', expect.stringMatching(/folder holds no file/)]);
    await withDuckDb({}, (db) => db.run(`COPY (SELECT 7 AS a) TO '${join(folder, 'in/c.parquet')}' (FORMAT parquet)`));
    expect(await rows(await ingest({ format: 'parquet', path: 'in' }))).toEqual([{ a: 7n }]);
  });

  it('of text in UTF-16 are read by streams: memory does not grow with them', async () => {
    const line = 'é,12345,some text of no interest to anybody\n';
    await file('large.csv', Buffer.from(`a,b,c\n${line.repeat(1_200_000)}`, 'utf16le'));
    const before = process.memoryUsage.rss();
    let peak = before;
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 5);
    const dataset = await ingest({ format: 'csv', path: 'large.csv' }, { memoryLimitBytes: 256 * 1024 ** 2, threads: 1 });
    clearInterval(watch);
    expect(dataset.ref.rows).toBe(1_200_000);
    // The file has 106 MB, its text in a JavaScript string as many.
    expect((peak - before) / 1024 ** 2).toBeLessThan(400);
  }, 60_000);
});

describe('bad files', () => {
  const cases: readonly {
    readonly what: string;
    readonly source: SourceInput;
    readonly content?: () => string | Buffer;
    readonly code: ErrorCode;
    readonly place?: object;
    readonly says?: RegExp;
  }[] = [
    {
      what: 'a column that changes its type in row 2,000,000',
      source: { format: 'csv', path: 'a.csv' },
      content: () => `id,amount\n${'7,3\n'.repeat(1_999_998)}7,n/a\n8,3\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv', row: 2_000_000, column: 'amount', found: 'x/x' },
    },
    {
      what: 'a column of JSON lines that changes its type, far down',
      source: { format: 'jsonl', path: 'a.jsonl' },
      content: () => `${'{"id":7,"amount":3}\n'.repeat(300_000)}{"id":7,"amount":"n/a"}\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.jsonl', row: 300_001, column: 'amount' },
    },
    {
      what: 'a ragged row of a packed file',
      source: { format: 'csv', path: 'a.csv.gz' },
      content: () => gzipSync(`a,b\n${'1,2\n'.repeat(50_000)}1\n`),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.gz', row: 50_002 },
    },
    {
      what: 'a quote that does not end, far down',
      source: { format: 'csv', path: 'a.csv' },
      content: () => `a,b\n${'1,"x ""y"""\n'.repeat(200_000)}3,"x\n${'4,5\n'.repeat(1000)}`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv', row: 200_002, column: 'b' },
      says: /does not end/,
    },
    {
      what: 'a NUL byte in a packed file',
      source: { format: 'csv', path: 'a.csv.gz' },
      content: () => gzipSync('a,b\n1,2\n3,x\0y\n'),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.gz', row: 3, column: 'b' },
    },
    {
      what: 'a NUL byte in a zstd file',
      source: { format: 'jsonl', path: 'a.jsonl.zst' },
      content: () => zstdFrame('{"a":"x"}\n{"a":"\0"}\n'),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.jsonl.zst', row: 2 },
    },
    {
      what: 'latin-1 where UTF-8 is named',
      source: { format: 'csv', path: 'a.csv', encoding: 'utf-8' },
      content: () => Buffer.from('id,name\n1,x\n2,caf\xe9\n', 'latin1'),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv', row: 3, column: 'name' },
      says: /not UTF-8/,
    },
    {
      what: 'UTF-16 where latin-1 is named',
      source: { format: 'csv', path: 'a.csv', encoding: 'latin-1' },
      content: () => Buffer.from('\ufeffid,name\n1,x\n', 'utf16le'),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv' },
      says: /begins as UTF-16/,
    },
    {
      what: 'UTF-16 that is cut off in the middle of a sign',
      source: { format: 'csv', path: 'a.csv' },
      content: () => Buffer.from('id,name\n1,x\n2,y\n', 'utf16le').subarray(0, -1),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv' },
      says: /not UTF-16/,
    },
    {
      what: 'latin-1 in a zstd file',
      source: { format: 'csv', path: 'a.csv.zst' },
      content: () => zstdFrame(Buffer.from('id,name\n2,caf\xe9\n', 'latin1')),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.zst' },
      says: /not UTF-8/,
    },
    {
      what: 'a cell of 50 MB',
      source: { format: 'csv', path: 'a.csv' },
      content: () => `id,name,text\n1,x,y\n2,"line\nline",${'z'.repeat(50_000_000)}\n3,x,y\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv', row: 3, column: 'text' },
      says: /longer than 2,000,000 bytes/,
    },
    {
      what: 'a cell of 50 MB behind many rows',
      source: { format: 'csv', path: 'a.csv' },
      content: () => `id,name,text\n${'1,x,y\n'.repeat(100_000)}2,${'z'.repeat(50_000_000)},y\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv', row: 100_002, column: 'name' },
    },
    {
      what: 'a JSON object of 50 MB',
      source: { format: 'jsonl', path: 'a.jsonl' },
      content: () => `{"a":"x"}\n{"a":"${'z'.repeat(50_000_000)}"}\n`,
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.jsonl', row: 2 },
    },
    {
      what: 'a gzip bomb',
      source: { format: 'csv', path: 'a.csv.gz' },
      content: () => Buffer.concat(Array<Buffer>(18).fill(gzipSync('a,b\n'.repeat(1 << 24)))),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.gz', fix: expect.stringContaining('maxUnpackedBytes') as string },
      says: /unpacks to more than 1,073,741,824/,
    },
    {
      what: 'a zstd bomb',
      source: { format: 'text', path: 'a.txt.zst', maxUnpackedBytes: 1_000_000 },
      content: () => zstdFrame('boom\n'.repeat(1_000_000)),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.txt.zst' },
      says: /unpacks to more than 1,000,000/,
    },
    {
      what: 'a gzip file that is cut off',
      source: { format: 'csv', path: 'a.csv.gz' },
      content: () => gzipSync(`a,b\n${Array.from({ length: 5000 }, (_, at) => `${at},${at * 7919}`).join('\n')}\n`).subarray(0, 9000),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.gz' },
      says: /cut off/,
    },
    { what: 'a gzip file that is none', source: { format: 'csv', path: 'a.csv.gz' }, content: () => 'a,b\n1,2\n', code: 'SOURCE_MALFORMED', says: /not gzip/ },
    {
      what: 'a packed file that is not named so',
      source: { format: 'csv', path: 'a.csv' },
      content: () => gzipSync('a,b\n1,2\n'),
      code: 'SOURCE_MALFORMED',
      says: /its name does not say so/,
    },
    {
      what: 'a zstd file that is damaged',
      source: { format: 'csv', path: 'a.csv.zst' },
      content: () => zstdFrame(`a,b\n${Array.from({ length: 5000 }, (_, at) => `${at},${at * 7919}`).join('\n')}\n`).subarray(0, 9000),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.zst' },
    },
    { what: 'an empty packed file', source: { format: 'csv', path: 'a.csv.gz' }, content: () => gzipSync(''), code: 'SOURCE_EMPTY' },
    { what: 'a header only, of tabs', source: { format: 'tsv', path: 'a.tsv' }, content: () => 'a\tb\n', code: 'SOURCE_EMPTY' },
    { what: 'an empty array', source: { format: 'json', path: 'a.json' }, content: () => '[]', code: 'SOURCE_EMPTY' },
    { what: 'an array of numbers', source: { format: 'json', path: 'a.json' }, content: () => '[1,2,3]', code: 'SOURCE_MALFORMED', place: { file: 'a.json' } },
    {
      what: 'an array that does not end',
      source: { format: 'json', path: 'a.json' },
      content: () => '[{"a":1},{"a":2}',
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.json' },
    },
    {
      what: 'two columns of one name in a packed file',
      source: { format: 'csv', path: 'a.csv.gz' },
      content: () => gzipSync('a,b,a\n1,2,3\n'),
      code: 'SOURCE_MALFORMED',
      place: { file: 'a.csv.gz', column: 'a' },
    },
  ];

  it.each(cases)(
    'are refused with their place, and nothing is left: $what',
    async ({ source, content, code, place, says }) => {
      if (content !== undefined && 'path' in source && typeof source.path === 'string') await file(source.path, content());
      const error = await refused(source);
      expect(error.code, error.message).toBe(code);
      if (place !== undefined) expect(error.problems[0]).toMatchObject(place);
      if (says !== undefined) expect(error.message).toMatch(says);
    },
    60_000,
  );

  it('may have a large cell where the source says so', async () => {
    await file('a.csv', `id,text\n1,${'z'.repeat(5_000_000)}\n2,y\n`);
    const dataset = await ingest({ format: 'csv', path: 'a.csv', maxRowBytes: 6_000_000 });
    expect((await rows(dataset, 'length(text) AS n')).map(({ n }) => Number(n))).toEqual([5_000_000, 1]);
    await file('a.jsonl', `{"a":"${'z'.repeat(17_000_000)}"}\n{"a":"y"}\n`);
    expect((await ingest({ format: 'jsonl', path: 'a.jsonl', maxRowBytes: 18_000_000 })).ref.rows).toBe(2);
  }, 60_000);

  it('may have 10,000 columns', async () => {
    const names = Array.from({ length: 10_000 }, (_, at) => `c${at}`);
    await file('wide.csv', `${names.join(',')}\n${Array.from({ length: 20 }, () => names.map((_, at) => at % 7).join(',')).join('\n')}\n`);
    const dataset = await ingest({ format: 'csv', path: 'wide.csv' });
    expect([dataset.ref.rows, dataset.manifest.columns.length]).toEqual([20, 10_000]);
    await file('ragged.csv', `${names.join(',')}\n${names.slice(1).join(',')}\n`);
    expect((await refused({ format: 'csv', path: 'ragged.csv' })).problems[0]).toMatchObject({ file: 'ragged.csv', row: 2 });
  }, 60_000);

  it('are refused where they lead out of a folder by a link', async () => {
    const secret = await mkdtemp(join(tmpdir(), 'millrace-secret-'));
    await writeFile(join(secret, 's.csv'), 'a\n1\n');
    await mkdir(join(folder, 'in'));
    await file('in/a.csv', 'a\n1\n');
    await symlink(join(secret, 's.csv'), join(folder, 'in/link.csv'));
    expect((await refused({ format: 'csv', path: 'in' })).message).toContain('leads out');
    await unlink(join(folder, 'in/link.csv'));
    await symlink(secret, join(folder, 'in/linked'));
    expect((await refused({ format: 'csv', path: 'in' })).message).toContain('leads out');
    await rm(secret, { recursive: true });
  });

  it.each<[string, (path: string) => Promise<void>, RegExp]>([
    ['grows', (path) => appendFile(path, '1,2\n'), /changed while it was read/],
    ['is cut', (path) => truncate(path, 1000), /changed while it was read/],
    ['vanishes', (path) => unlink(path), /changed while it was read/],
    ['becomes another', (path) => writeFile(path, 'x,y\n'.repeat(50_000)), /changed while it was read/],
  ])('are refused where the file %s while it is read', async (_, change, says) => {
    await file('live.csv', `a,b\n${'1,2\n'.repeat(50_000)}`);
    // The snapshot's file is asked for once the source is open, and before its rows are read.
    const meanwhile = {
      ...artifacts,
      temporaryFile: async (suffix: string) => {
        if (suffix === '.parquet') await change(join(folder, 'live.csv'));
        return artifacts.temporaryFile(suffix);
      },
    };
    const error: unknown = await ingest({ format: 'csv', path: 'live.csv' }, { artifacts: meanwhile }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'SOURCE_MALFORMED', message: expect.stringMatching(says) as string, problems: [{ file: 'live.csv' }] });
  });

  it('are refused where Parquet is cut off, names columns twice, or has another format', async () => {
    const whole = await readFile('node_modules/vega-datasets/data/flights-3m.parquet');
    await file('cut.parquet', whole.subarray(0, 2_000_000));
    expect((await refused({ format: 'parquet', path: 'cut.parquet' })).problems[0]).toMatchObject({ file: 'cut.parquet' });
    await file('text.parquet', 'a,b\n1,2\n');
    expect((await refused({ format: 'parquet', path: 'text.parquet' })).code).toBe('SOURCE_MALFORMED');
  });
});

describe('CSV that anybody writes', () => {
  it('loses no row, wherever one lies that does not fit', async () => {
    // DuckDB cuts files of more than 8,000,000 bytes for its threads: the rows about there are those in danger.
    for (const rowsBefore of [1_999_997, 1_999_998, 1_999_999]) {
      await file('any.csv', `id,amount\n${'7,3\n'.repeat(rowsBefore)}7,n/a\n8,3\n`);
      expect((await refused({ format: 'csv', path: 'any.csv' })).problems[0]).toMatchObject({ row: rowsBefore + 2, column: 'amount' });
    }
    expect((await ingest({ format: 'csv', path: 'any.csv', types: { amount: 'string' } })).ref.rows).toBe(2_000_001);
  }, 60_000);

  it('is refused where a column has a reserved name, and says which', async () => {
    await file('any.csv', 'a,__proto__,__Millrace_row\n1,2,3\n');
    await expect(ingest({ format: 'csv', path: 'any.csv' })).rejects.toMatchObject({
      code: 'SOURCE_MALFORMED',
      problems: [{ column: '__proto__' }, { column: '__Millrace_row' }],
    });
  });

  it('may hold quotes where none begins a field', async () => {
    await file('any.csv', 'a,b\n5" pipe,x"y\n"6"" pipe",z"\n');
    expect(await rows(await ingest({ format: 'csv', path: 'any.csv' }))).toEqual([
      { a: '5" pipe', b: 'x"y' },
      { a: '6" pipe', b: 'z"' },
    ]);
  });

  const text = fc.string({
    unit: fc.oneof(
      { weight: 4, arbitrary: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }) },
      fc.constantFrom('"', ',', ';', '\t', '|', '\n', '\r\n', ' ', "'", '#', '\\'),
    ),
    maxLength: 12,
  });
  // Signs that are no text: NUL is refused, halves of pairs cannot be written.
  const cell = text.filter((value) => !value.includes('\0') && !value.includes('\u0001') && value.isWellFormed());
  // White space around a name is no part of it.
  const name = cell.filter((value) => value.trim() === value && value !== '' && value !== '__proto__');
  const quote = (value: string): string => `"${value.replaceAll('"', '""')}"`;
  const written = (value: string, delimiter: string): string =>
    /["\r\n]/.test(value) || value.includes(delimiter) || value !== value.trim() || value === '' ? quote(value) : value;

  it('is read back as it was, whatever its texts hold: quotes, line ends, delimiters, any script', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(name, { minLength: 2, maxLength: 5, selector: (value) => value.toLowerCase() }),
        fc.array(fc.array(cell, { minLength: 5, maxLength: 5 }), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(',', ';', '\t', '|'),
        fc.boolean(),
        async (names, table, delimiter, all) => {
          const write = (value: string): string => (all ? quote(value) : written(value, delimiter));
          const lines = [names, ...table.map((row) => row.slice(0, names.length))].map((row) => row.map(write).join(delimiter));
          await file('any.csv', `${lines.join('\n')}\n`);
          const types = Object.fromEntries(names.map((column) => [column, 'string' as const]));
          const dataset = await ingest({ format: 'csv', path: 'any.csv', delimiter, types });
          expect(dataset.manifest.columns.map((column) => column.name)).toEqual(names);
          const found = (await rows(dataset)).map((row) => names.map((column) => row[column] ?? ''));
          expect(found).toEqual(table.map((row) => row.slice(0, names.length)));
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  it('has the same rows in every encoding that can write it, named or found', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.string({ unit: fc.constantFrom('a', 'B', '9', 'é', 'ß', 'ø', ' ', ','), minLength: 1, maxLength: 8 }).filter((value) => value.trim() !== ''),
          { minLength: 1, maxLength: 6 },
        ),
        fc.constantFrom('utf8' as const, 'latin1' as const, 'utf16le' as const),
        fc.boolean(),
        async (values, encoding, named) => {
          const bytes = Buffer.from(`id,some text\n${values.map((value, at) => `${at},${quote(value)}`).join('\n')}\n`, encoding);
          await file('any.csv', bytes);
          const dataset = await ingest({
            format: 'csv',
            path: 'any.csv',
            types: { 'some text': 'string' },
            ...(named ? { encoding: ({ utf8: 'utf-8', latin1: 'latin-1', utf16le: 'utf-16' } as const)[encoding] } : {}),
          });
          expect((await rows(dataset)).map((row) => row['some text'])).toEqual(values);
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);
});
