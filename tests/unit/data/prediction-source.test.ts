import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { predictions, type Source, SourceSchema } from '../../../contracts/source.ts';
import type { FeedbackRecord, OutcomeRecord, PredictionRecord } from '../../../contracts/routes.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { fingerprintSource } from '../../../data/fingerprint-source.ts';
import { type IngestedDataset, ingestSource, type IngestOptions } from '../../../data/ingest.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let home: string;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  home = await mkdtemp(join(tmpdir(), 'millrace-predictions-'));
});
afterAll(async () => {
  await artifacts.remove();
  await rm(home, { recursive: true, force: true });
});
beforeEach(async () => {
  for (const kind of ['predictions', 'feedback']) {
    await rm(join(home, kind), { recursive: true, force: true });
    await mkdir(join(home, kind, 'flights'), { recursive: true });
  }
});

const prediction = (requestId: string, row: number, at: string, inputs: object, output: readonly number[], version = 1): string =>
  `${JSON.stringify({ requestId, row, at, model: 'late', version, challenger: false, inputs: inputs as Record<string, unknown>, output, latencyMs: 1 } satisfies PredictionRecord)}\n`;
const label = (requestId: string, row: number, value: string | number | boolean, at: string): string =>
  `${JSON.stringify({ requestId, row, label: value, at } satisfies FeedbackRecord)}\n`;
const log = (name: string, ...lines: string[]): Promise<void> => appendFile(join(home, name), lines.join(''));
const source = (options: Parameters<typeof predictions>[1] = {}): Source => SourceSchema.parse(predictions('flights', options));
const ingest = (from: Source, more: Partial<IngestOptions> = {}): Promise<IngestedDataset> =>
  ingestSource({ source: from, name: 'data', artifacts, projectFolder: home, home, ...more });

async function rowsOf({ manifest }: IngestedDataset): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const path = await artifacts.pathOf(manifest.files[0]!.sha256);
  return withDuckDb({}, async (db) => (await db.connection.runAndReadAll(`SELECT * FROM ${parquetRelation([path])}`)).getRowObjectsJson());
}
const typesOf = ({ manifest }: IngestedDataset): Readonly<Record<string, string>> => Object.fromEntries(manifest.columns.map(({ name, type }) => [name, type]));

describe("an endpoint's predictions", () => {
  beforeEach(async () => {
    await log(
      'predictions/flights/2026-01-01T00-a.jsonl',
      prediction('r1', 0, '2026-01-01T00:00:01.000Z', { distance: 100, origin: 'ORD' }, [0.25]),
      prediction('r1', 1, '2026-01-01T00:00:01.000Z', { distance: 200.5, origin: null }, [0.75]),
      prediction('r2', 0, '2026-01-01T00:00:02.000Z', { distance: 300, origin: 'ATL' }, [0.5]),
    );
    await log(
      'feedback/flights/2026-01-01T01-a.jsonl',
      label('r1', 1, 'yes', '2026-01-01T01:00:00.000Z'),
      label('r1', 1, 'no', '2026-01-01T02:00:00.000Z'),
      label('stranger', 0, 'yes', '2026-01-01T01:00:00.000Z'),
      label('r1', 7, 'yes', '2026-01-01T01:00:00.000Z'),
    );
  });

  it('come with the label that came last, one row a request and row', async () => {
    const data = await ingest(source());
    expect(typesOf(data)).toEqual({
      distance: 'number',
      origin: 'string',
      prediction: 'number',
      label: 'string',
      requestId: 'string',
      row: 'integer',
      at: 'timestamp',
      model: 'string',
      version: 'integer',
      labelledAt: 'timestamp',
    });
    const rows = await rowsOf(data);
    expect(rows.map(({ requestId, row, distance, origin, prediction: p, label: l }) => [requestId, row, distance, origin, p, l])).toEqual([
      ['r1', '0', 100, 'ORD', 0.25, null],
      ['r1', '1', 200.5, null, 0.75, 'no'],
      ['r2', '0', 300, 'ATL', 0.5, null],
    ]);
    expect(rows[1]).toMatchObject({ at: '2026-01-01 00:00:01', labelledAt: '2026-01-01 02:00:00', model: 'late', version: '1' });
  });

  it('may be those of a window, and those that have a label', async () => {
    expect((await rowsOf(await ingest(source({ from: '2026-01-01T00:00:02Z' })))).map((row) => row['requestId'])).toEqual(['r2']);
    expect((await rowsOf(await ingest(source({ to: '2026-01-01T00:00:02Z' })))).map((row) => row['requestId'])).toEqual(['r1', 'r1']);
    expect((await rowsOf(await ingest(source({ labelled: true })))).map((row) => row['label'])).toEqual(['no']);
    await expect(ingest(source({ to: '2025-01-01T00:00:00Z' }))).rejects.toMatchObject({
      code: 'SOURCE_EMPTY',
      message: 'The endpoint flights has logged no predictions in the window.',
    });
  });

  it('come with what they led to: a column and a time for each outcome, the last one of a name', async () => {
    const outcome = (requestId: string, name: string, value: number, happenedAt: string, at: string): string =>
      `${JSON.stringify({ requestId, row: 0, outcome: name, value, happenedAt, at } satisfies OutcomeRecord)}\n`;
    await log(
      'feedback/flights/2026-01-01T03-a.jsonl',
      outcome('r1', 'revenue', 10, '2026-01-01T02:30:00.000Z', '2026-01-01T03:00:00.000Z'),
      outcome('r1', 'revenue', 12.5, '2026-01-01T02:40:00.000Z', '2026-01-01T04:00:00.000Z'),
      outcome('r2', 'churned', 1, '2026-02-01T00:00:00.000Z', '2026-02-01T01:00:00.000Z'),
      outcome('stranger', 'rating', 1, '2026-02-01T00:00:00.000Z', '2026-02-01T01:00:00.000Z'),
    );
    const data = await ingest(source());
    expect(typesOf(data)).toMatchObject({
      outcome_revenue: 'number',
      outcome_revenue_at: 'timestamp',
      outcome_churned: 'number',
      outcome_churned_at: 'timestamp',
    });
    expect(Object.keys(typesOf(data))).not.toContain('outcome_rating');
    expect(await rowsOf(data)).toMatchObject([
      { requestId: 'r1', row: '0', outcome_revenue: 12.5, outcome_revenue_at: '2026-01-01 02:40:00', outcome_churned: null, label: null },
      { requestId: 'r1', row: '1', outcome_revenue: null, label: 'no' },
      { requestId: 'r2', outcome_churned: 1, outcome_churned_at: '2026-02-01 00:00:00' },
    ]);
  });

  it('come with the action that was taken and its propensity; what ran in the shadow of the champion is left out', async () => {
    const line = JSON.parse(prediction('r3', 0, '2026-01-01T00:00:03.000Z', { distance: 1, origin: 'X' }, [0.1])) as PredictionRecord;
    await log(
      'predictions/flights/2026-01-01T00-a.jsonl',
      `${JSON.stringify({ ...line, action: 'hold', propensity: 0.99, explored: false } satisfies PredictionRecord)}\n`,
      `${JSON.stringify({ ...line, version: 2, challenger: true, shadow: true, output: [0.9] } satisfies PredictionRecord)}\n`,
    );
    const rows = await rowsOf(await ingest(source()));
    expect(rows.map(({ requestId, version, action, propensity, explored }) => [requestId, version, action, propensity, explored])).toEqual([
      ['r1', '1', null, null, null],
      ['r1', '1', null, null, null],
      ['r2', '1', null, null, null],
      ['r3', '1', 'hold', 0.99, false],
    ]);
  });

  it('under one request id twice count once: the last one', async () => {
    await log('predictions/flights/2026-01-01T05-b.jsonl', prediction('r2', 0, '2026-01-01T05:00:00.000Z', { distance: 999, origin: 'ATL' }, [0.9], 2));
    const rows = await rowsOf(await ingest(source()));
    expect(rows.filter(({ requestId }) => requestId === 'r2')).toMatchObject([{ distance: 999, version: '2', prediction: 0.9 }]);
  });

  it('are read while the log is written: half a line is left out', async () => {
    await log('predictions/flights/2026-01-01T00-a.jsonl', prediction('r3', 0, '2026-01-01T00:00:03.000Z', { distance: 1, origin: 'X' }, [0.1]).slice(0, 70));
    await log('feedback/flights/2026-01-01T01-a.jsonl', label('r2', 0, 'yes', '2026-01-01T01:00:00.000Z').slice(0, 20));
    expect((await ingest(source())).ref.rows).toBe(3);
  });

  it('have several outputs as columns of their own, and inputs keep their names', async () => {
    await writeFile(
      join(home, 'predictions/flights/2026-01-01T00-a.jsonl'),
      prediction('r1', 0, '2026-01-01T00:00:01.000Z', { label: 'mine', 'odd "name"': true }, [0.2, 0.8]),
    );
    const data = await ingest(source());
    expect((await rowsOf(data))[0]).toMatchObject({ label: 'mine', 'odd "name"': true, prediction_0: 0.2, prediction_1: 0.8, millrace_label: null });
  });

  it("take the types of the model's inputs where all values have them", async () => {
    const inputTypes = (): Promise<ReadonlyMap<string, string>> =>
      Promise.resolve(
        new Map([
          ['when', 'timestamp'],
          ['n', 'number'],
          ['m', 'integer'],
        ]),
      );
    await writeFile(
      join(home, 'predictions/flights/2026-01-01T00-a.jsonl'),
      prediction('r1', 0, '2026-01-01T00:00:01.000Z', { when: '2026-01-01T00:00:00.000Z', n: 1, m: 'many' }, [1]) +
        prediction('r2', 0, '2026-01-01T00:00:01.000Z', { when: null, n: 2, m: 3 }, [1]),
    );
    const data = await ingest(source(), { inputTypes });
    expect(typesOf(data)).toMatchObject({ when: 'timestamp', n: 'number', m: 'string' });
    expect((await rowsOf(data))[0]).toMatchObject({ when: '2026-01-01 00:00:00', n: 1, m: 'many' });
  });

  it('of which nothing was logged are an empty source; and the fingerprint changes when a line comes', async () => {
    const before = await fingerprintSource(source(), { projectFolder: home, home });
    expect(await fingerprintSource(source(), { projectFolder: home, home })).toEqual(before);
    await log('feedback/flights/2026-01-01T01-a.jsonl', label('r2', 0, 'yes', '2026-01-01T01:00:00.000Z'));
    expect((await fingerprintSource(source(), { projectFolder: home, home })).sha256).not.toBe(before.sha256);
    await expect(ingest(SourceSchema.parse(predictions('nothing')))).rejects.toMatchObject({ code: 'SOURCE_EMPTY' });
  });
});
