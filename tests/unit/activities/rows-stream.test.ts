import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRowsStream, type RowsCall } from '../../../activities/rows-stream.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import type { Source } from '../../../contracts/source.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { incrementSettings } from '../../../data/increment.ts';
import { type IngestedDataset, ingestSource, type IngestOptions } from '../../../data/ingest.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let folder = '';
let module = '';
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-rows-'));
  module = join(folder, 'steps.mjs');
  // as a built steps.ts is
  await writeFile(
    module,
    `import { writeFileSync, appendFileSync } from 'node:fs';
     const rows = (run, types = {}) => ({ [Symbol.for('millrace.step')]: { kind: 'rows', run, types } });
     export const kinds = rows(function* () {
       yield { n: 1.5, big: 9007199254740993n, ok: true, text: 'Zürich', at: new Date(Date.UTC(2026, 0, 1, 0, 0, 0, 7)), empty: null };
       yield { n: NaN, big: -1n, ok: null, at: undefined, empty: null };
     });
     export const stated = rows(function* () { yield { id: 1, day: '2026-01-02T03:04:05Z' }; yield { id: 2, day: new Date(0), later: 'x' }; }, { id: 'integer', day: 'date', later: 'string' });
     export const many = rows(async function* ({ rows }) { for (let n = 0; n < rows; n++) yield { n, text: 'row ' + n }; });
     export const turns = rows(function* () { for (let n = 0; n < 7000; n++) yield { n: n === 6543 ? 'six' : n }; });
     export const grows = rows(function* () { for (let n = 0; n < 7000; n++) yield n < 6000 ? { n } : { n, more: 1 }; });
     export const nul = rows(function* () { yield { text: 'a\\0b' }; });
     export const list = rows(function* () { yield [1]; });
     export const fails = rows(async function* () { yield { n: 1 }; throw new TypeError('page 2 is gone'); });
     export const none = rows(function* () {});
     export const leaves = rows(function* () { yield { n: 1 }; process.exit(3); });
     export const slow = rows(async function* ({ mark }, { signal, progress }) {
       try {
         progress(null, 'page 1');
         yield { n: 1 };
         await new Promise((resolve) => signal.addEventListener('abort', resolve));
       } finally { writeFileSync(mark, 'cleaned up'); }
     });
     export const pulled = rows(function* ({ mark }) { for (let n = 0; n < 200000; n++) { if (n % 1000 === 0) appendFileSync(mark, n + '\\n'); yield { n }; } });
     export const above = rows(function* (_, { above }) { for (let n = above === null ? 0 : Number(above.value); n < 5; n++) yield { n, asked: above === null ? 'all' : above.column }; });`,
  );
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const callOf = (step: string, parameters: object = {}, above: RowsCall['above'] = null): RowsCall => ({
  module,
  step,
  parameters: parameters as Record<string, unknown>,
  above,
  runId: '0'.repeat(32),
  pipeline: 'p',
});
const sourceOf = (step: string, parameters: object = {}): Source => ({
  format: 'rows',
  pipeline: 'p',
  step,
  parameters: parameters as Record<string, unknown>,
});
const ingest = (step: string, parameters: object = {}, more: Partial<IngestOptions> = {}): Promise<IngestedDataset> =>
  ingestSource({
    source: sourceOf(step, parameters),
    name: 'data',
    artifacts,
    projectFolder: folder,
    rows: (source, { above, ...options }) => openRowsStream(callOf(source.step, source.parameters, above ?? null), { ...options, log: () => undefined }),
    ...more,
  });

async function rowsOf({ manifest }: IngestedDataset): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const files = await Promise.all(manifest.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
  return withDuckDb({}, async (db) => (await db.connection.runAndReadAll(`SELECT * FROM ${parquetRelation(files)}`)).getRowObjectsJson());
}
const typesOf = ({ manifest }: IngestedDataset): Readonly<Record<string, string>> => Object.fromEntries(manifest.columns.map(({ name, type }) => [name, type]));

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('an iterator of rows', () => {
  it('gives columns of the types that the first rows have', async () => {
    const data = await ingest('kinds');
    expect(typesOf(data)).toEqual({ n: 'number', big: 'integer', ok: 'boolean', text: 'string', at: 'timestamp', empty: 'string' });
    expect(await rowsOf(data)).toEqual([
      { n: 1.5, big: '9007199254740993', ok: true, text: 'Zürich', at: '2026-01-01 00:00:00.007', empty: null },
      { n: null, big: '-1', ok: null, text: null, at: null, empty: null },
    ]);
  });

  it('gives columns of the types that are stated', async () => {
    const data = await ingest('stated');
    expect(typesOf(data)).toEqual({ id: 'integer', day: 'date', later: 'string' });
    expect(await rowsOf(data)).toEqual([
      { id: '1', day: '2026-01-02', later: null },
      { id: '2', day: '1970-01-01', later: 'x' },
    ]);
  });

  it('of 100,000 rows comes whole and in order', async () => {
    const { manifest } = await ingest('many', { rows: 100_000 });
    const file = await artifacts.pathOf(manifest.files[0]!.sha256);
    await withDuckDb({}, async (db) => {
      expect(
        await db.row(
          `SELECT count(*) AS n, count(*) FILTER (WHERE n <> file_row_number OR text <> 'row ' || file_row_number) AS wrong FROM read_parquet('${file}', file_row_number = true)`,
        ),
      ).toEqual({ n: 100_000n, wrong: 0n });
    });
  });

  it.each([
    ['turns', 'SOURCE_MALFORMED', { row: 6_544, column: 'n', found: 'string' }],
    ['grows', 'SOURCE_MALFORMED', { row: 6_001, column: 'more' }],
    ['nul', 'SOURCE_MALFORMED', { row: 1, column: 'text' }],
    ['list', 'SOURCE_MALFORMED', undefined],
    ['fails', 'USER_CODE_FAILED', undefined],
    ['none', 'SOURCE_EMPTY', undefined],
    ['leaves', 'USER_CODE_FAILED', undefined],
    ['absent', 'NOT_FOUND', undefined],
  ])('that is wrong is refused with its place: %s', async (step, code, place) => {
    const error = await refused(ingest(step));
    expect(error.code).toBe(code);
    if (place !== undefined) expect(error.problems[0]).toMatchObject(place);
  });

  it('is asked on only as rows are taken', async () => {
    const mark = join(folder, 'pulled');
    const stream = await openRowsStream(callOf('pulled', { mark }), { log: () => undefined });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await readFile(mark, 'utf8')).trim().split('\n').length).toBeLessThanOrEqual(6);
    await stream.close();
  });

  it('hears of an abort and may clean up; what it tells on the way is heard', async () => {
    const mark = join(folder, 'mark');
    const stop = new AbortController();
    const heard: string[] = [];
    const work = ingest('slow', { mark }, { signal: stop.signal, onFetch: (what) => heard.push(what) }).catch((error: unknown) => error);
    await vi.waitUntil(() => heard.includes('page 1'), { timeout: 20_000 });
    stop.abort(new Error('stopped'));
    expect(await work).toMatchObject({ message: 'stopped' });
    expect(await readFile(mark, 'utf8')).toBe('cleaned up');
  });

  it('is told the watermark of what it extends, and what it yields again is left out', async () => {
    const rule = { by: 'watermark', column: 'n' } as const;
    const settings = incrementSettings({ source: sourceOf('above'), pii: {}, transforms: [], golden: undefined, increment: rule });
    const first = await ingest('above', {}, { increment: { rule, settings } });
    expect(first.manifest.increment).toMatchObject({ value: '4.0' });
    const again = await ingest('above', {}, { increment: { rule, settings, base: { id: first.ref.id, manifest: first.manifest, golden: null } } });
    expect(again).toMatchObject({ ref: first.ref, added: 0 });
  });
});
