import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FeedbackRecord, OutcomeRecord, PredictionRecord } from '../../../contracts/routes.ts';
import { predictions, SourceSchema } from '../../../contracts/source.ts';
import { compactLogs, type CompactOptions } from '../../../data/compact-log.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { fingerprintSource } from '../../../data/fingerprint-source.ts';
import { feedbackRelation, predictionRelation } from '../../../data/log-relations.ts';
import { feedbackSegments, type LogSegment, predictionSegments } from '../../../data/prediction-segments.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'millrace-compact-'));
});
afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

const EARLIEST = '1970-01-01T00:00:00Z';
const HOUR_MS = 3_600_000;
const NOW_MS = Date.parse('2026-01-01T12:00:00Z');
const prediction = (n: number, more: Partial<PredictionRecord> = {}): string =>
  `${JSON.stringify({
    requestId: `r${n}`,
    row: 0,
    at: new Date(Date.parse('2026-01-01T08:00:00Z') + n * 1_000).toISOString(),
    model: 'late',
    version: 1,
    challenger: false,
    inputs: { distance: n, origin: n % 2 === 0 ? 'ORD' : null, note: 'ü "x"' },
    output: [0.25, 0.75],
    latencyMs: 1.5,
    ...more,
  } satisfies PredictionRecord)}\n`;

/** A segment whose last line was written at `atMs`. */
async function segment(path: string, text: string, atMs = Date.parse('2026-01-01T08:59:00Z')): Promise<void> {
  await mkdir(join(home, path, '..'), { recursive: true });
  await writeFile(join(home, path), text);
  await utimes(join(home, path), new Date(atMs), new Date(atMs));
}
const compact = (more: Partial<CompactOptions> = {}): ReturnType<typeof compactLogs> => compactLogs({ home, graceMs: 0, ...more });
const filesOf = async (folder = 'predictions/flights'): Promise<readonly string[]> => (await readdir(join(home, folder))).sort();

async function rowsOf(relation: (segments: readonly LogSegment[]) => string, segments: readonly LogSegment[]): Promise<readonly unknown[]> {
  if (segments.length === 0) return [];
  return withDuckDb({}, async (db) =>
    (await db.connection.runAndReadAll(`SELECT * FROM ${relation(segments)} ORDER BY requestId, "row", "at"`)).getRowObjectsJson(),
  );
}
const logged = async (from = EARLIEST): Promise<readonly unknown[]> => rowsOf(predictionRelation, await predictionSegments(home, 'flights', from));

describe('compaction of an endpoint’s logs', () => {
  it('turns the lines of an hour that is over into one Parquet file with the same rows, and keeps the source’s fingerprint', async () => {
    const decided = prediction(2, { action: 'hold', propensity: 0.99, explored: false, review: 'look', key: 'abc' });
    await segment('predictions/flights/2026-01-01T08-a.jsonl', prediction(1) + decided + prediction(3, { shadow: true }));
    await segment('predictions/flights/2026-01-01T08-b.jsonl', prediction(4));
    const before = await logged();
    const source = SourceSchema.parse(predictions('flights'));
    const fingerprint = await fingerprintSource(source, { projectFolder: home, home });
    expect(await compact()).toEqual({ made: 2, replaced: 0, expired: 0 });
    expect((await filesOf()).filter((name) => name.endsWith('.parquet'))).toHaveLength(2);
    expect(await compact()).toEqual({ made: 0, replaced: 2, expired: 0 });
    expect((await filesOf()).every((name) => /^2026-01-01T08-[ab]\.\d+\.parquet$/.test(name))).toBe(true);
    expect(await logged()).toEqual(before);
    expect(before).toHaveLength(4);
    expect(before[1]).toMatchObject({ action: 'hold', propensity: 0.99, explored: false, review: 'look', key: 'abc', at: '2026-01-01 08:00:02' });
    expect((await fingerprintSource(source, { projectFolder: home, home })).sha256).toBe(fingerprint.sha256);
    expect(await compact()).toEqual({ made: 0, replaced: 0, expired: 0 });
  });

  it('leaves the hour that is being written alone, and what was written a moment ago', async () => {
    await segment('predictions/flights/2026-01-01T11-a.jsonl', prediction(1), NOW_MS - 60_000);
    await segment('predictions/flights/2026-01-01T08-b.jsonl', prediction(2), NOW_MS - 60_000);
    await segment('predictions/flights/2026-01-01T12-a.jsonl', prediction(3), NOW_MS - HOUR_MS);
    expect(await compact({ now: () => NOW_MS })).toEqual({ made: 0, replaced: 0, expired: 0 });
  });

  it('takes a full segment before its hour is over: its server writes another one by then', async () => {
    await segment('predictions/flights/2026-01-01T11-a.jsonl', prediction(1), NOW_MS - 10 * 60_000);
    expect(await compact({ now: () => NOW_MS, fullBytes: 100 })).toMatchObject({ made: 1 });
    expect(await compact({ now: () => NOW_MS, fullBytes: 100_000 })).toMatchObject({ made: 0 });
  });

  it('reads a segment once while both its files are there, and from its lines when more were written after all', async () => {
    const path = 'predictions/flights/2026-01-01T08-a.jsonl';
    await segment(path, prediction(1));
    await compact();
    expect((await predictionSegments(home, 'flights', EARLIEST)).map(({ format }) => format)).toEqual(['parquet']);
    await appendFile(join(home, path), prediction(2));
    expect((await predictionSegments(home, 'flights', EARLIEST)).map(({ format }) => format)).toEqual(['jsonl']);
    expect(await logged()).toHaveLength(2);
    await utimes(join(home, path), new Date(NOW_MS - HOUR_MS), new Date(NOW_MS - HOUR_MS));
    expect(await compact()).toMatchObject({ made: 1 });
    expect(await compact()).toMatchObject({ replaced: 1 });
    expect(await filesOf()).toHaveLength(1);
    expect(await logged()).toHaveLength(2);
  });

  it('keeps lines for readers that listed them, as long as it says', async () => {
    await segment('predictions/flights/2026-01-01T08-a.jsonl', prediction(1));
    await compact();
    const made = Date.now();
    expect(await compactLogs({ home, graceMs: HOUR_MS, now: () => made })).toMatchObject({ replaced: 0 });
    expect(await compactLogs({ home, graceMs: HOUR_MS, now: () => made + 2 * HOUR_MS })).toMatchObject({ replaced: 1 });
  });

  it('chooses segments of a window by when their last line was written, before and after', async () => {
    await segment('predictions/flights/2026-01-01T08-a.jsonl', prediction(1));
    const windows = ['2026-01-01T08:58:00Z', '2026-01-01T09:30:00Z'];
    const before = await Promise.all(windows.map((from) => logged(from)));
    await compact();
    await compact();
    expect(await Promise.all(windows.map((from) => logged(from)))).toEqual(before);
    expect(before.map((rows) => rows.length)).toEqual([1, 0]);
  });

  it('says how many lines could not be read, and keeps the others', async () => {
    const told: unknown[] = [];
    await segment('predictions/flights/2026-01-01T08-a.jsonl', `${prediction(1)}${prediction(2).slice(0, 40)}\n${prediction(3)}not json\n`);
    await compact({ log: (_level, _message, details) => told.push(details) });
    await compact();
    expect(told).toEqual([{ segment: '2026-01-01T08-a', lines: 2 }]);
    expect(await logged()).toHaveLength(2);
  });

  it('takes feedback along, and removes what is older than it is kept, in either form', async () => {
    const label = { requestId: 'r1', row: 0, label: 'yes', at: '2026-01-01T08:30:00.000Z' } satisfies FeedbackRecord;
    const outcome = { requestId: 'r1', row: 0, outcome: 'revenue', value: 12.5, happenedAt: '2026-01-01T08:20:00.000Z', at: label.at } satisfies OutcomeRecord;
    await segment('feedback/flights/2026-01-01T08-a.jsonl', `${JSON.stringify(label)}\n${JSON.stringify(outcome)}\n`);
    await segment('feedback/flights/2026-01-01T07-a.jsonl', `${JSON.stringify(label)}\n`);
    const read = async (): Promise<readonly unknown[]> => rowsOf(feedbackRelation, await feedbackSegments(home, 'flights', EARLIEST));
    const before = await read();
    expect(before).toHaveLength(3);
    await compact();
    await compact();
    expect((await read()).toString()).toBe(before.toString());
    await segment('feedback/flights/2026-01-01T06-a.jsonl', 'x\n', NOW_MS - 6 * HOUR_MS);
    expect(await compact({ now: () => NOW_MS, keepMs: 24 * HOUR_MS })).toMatchObject({ expired: 0 });
    expect(await compact({ now: () => NOW_MS, keepMs: 2 * HOUR_MS })).toMatchObject({ expired: 3 });
    expect(await filesOf('feedback/flights')).toEqual([]);
  });

  it('loses and doubles nothing when its process is killed again and again', async () => {
    const rows = 5_000;
    for (const server of ['a', 'b', 'c'])
      await segment(
        `predictions/flights/2026-01-01T08-${server}.jsonl`,
        Array.from({ length: rows }, (_, n) => prediction(n, { requestId: `${server}${n}` })).join(''),
      );
    const count = async (): Promise<unknown> => {
      const relation = predictionRelation(await predictionSegments(home, 'flights', EARLIEST));
      return withDuckDb({}, async (db) => {
        const { n, d } = await db.row(`SELECT count(*)::INT AS n, count(DISTINCT requestId)::INT AS d FROM ${relation}`);
        return [n, d];
      });
    };
    const code = `
      import { compactLogs } from ${JSON.stringify(new URL('../../../data/compact-log.ts', import.meta.url).href)};
      process.send('begins');
      await compactLogs({ home: ${JSON.stringify(home)}, graceMs: 0 });
      await compactLogs({ home: ${JSON.stringify(home)}, graceMs: 0 });
    `;
    const program = join(home, 'compact.mts');
    await writeFile(program, code);
    let killed = 0;
    for (let delayMs = 0; ; delayMs = 4 * delayMs + 40) {
      const child = fork(program, { execArgv: ['--import', 'tsx'] });
      const ended = once(child, 'exit') as Promise<[number | null]>;
      await once(child, 'message');
      const timer = sleep(delayMs).then(() => child.kill('SIGKILL'));
      const [status] = await ended;
      await timer;
      expect(await count()).toEqual([3 * rows, 3 * rows]);
      if (status === 0) break;
      killed += 1;
    }
    expect(killed).toBeGreaterThan(0);
    expect((await filesOf()).filter((name) => !name.startsWith('.')).every((name) => name.endsWith('.parquet'))).toBe(true);
  }, 120_000);
});
