import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Column } from '../../../contracts/columns.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { type MonitorRows, openMonitorRows } from '../../../data/monitor-rows.ts';
import type { LogSegment } from '../../../data/prediction-segments.ts';

const FROM = '2001-01-01T00:00:00.000Z';
const ROWS = 2_000;
/** Of these all inputs are known to be kept or to be thrown away. */
const EVERYTHING = 1e9;
const COLUMNS: readonly Column[] = [
  { name: 'n', type: 'integer' },
  { name: 'of "two" words', type: 'string' },
  { name: 'always null', type: 'number' },
  { name: 'never sent', type: 'number' },
];
const inputsOf = (i: number): object => ({ n: i, 'of "two" words': `text ${String(i % 7)}`, 'always null': null, ...(i % 3 === 0 ? {} : { seldom: 1 }) });

let folder: string;
let segments: readonly LogSegment[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-monitor-rows-'));
  const line = (i: number, more: object = {}): string =>
    JSON.stringify({
      requestId: `r${String(i)}`,
      row: 0,
      at: new Date(Date.parse(FROM) + i).toISOString(),
      model: 'm',
      version: 1,
      challenger: false,
      inputs: inputsOf(i),
      output: [i / ROWS],
      latencyMs: i,
      ...more,
    });
  const lines = Array.from({ length: ROWS }, (_, i) => line(i));
  // logged again a moment later, and by another version
  lines.push(line(5, { at: '2001-01-01T00:10:00.000Z', output: [9], inputs: { ...inputsOf(5), n: -5 } }), line(ROWS, { version: 2 }));
  const path = join(folder, 'log.jsonl');
  await writeFile(path, lines.map((text) => `${text}\n`).join(''));
  segments = [{ path, format: 'jsonl', identity: 'log' }];
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const reading = <Result>(keptBytes: number, work: (window: MonitorRows) => Promise<Result>): Promise<Result> =>
  withDuckDb({}, async (db) => {
    const window = await openMonitorRows(db, {
      segments,
      feedback: [],
      feedbackUntil: FROM,
      model: 'm',
      version: 1,
      from: FROM,
      to: '2001-01-02T00:00:00.000Z',
      columns: COLUMNS,
      seed: 3,
      keptBytes,
    });
    if (window === null) throw new RangeError('There is no window.');
    return work(window);
  });

describe('a window of which not all inputs are kept', () => {
  it('draws the same rows as one that keeps them all, whether its share is enough for them or not', async () => {
    for (const asked of [{ rows: 20 }, { rows: 600 }, { rows: 20, carrying: ['seldom'] }, { rows: ROWS * 2 }]) {
      const draw = (keptBytes: number) => reading(keptBytes, async (window) => (await window.sample({ carrying: [], ...asked })).rows);
      const [all, share] = [await draw(EVERYTHING), await draw(0)];
      expect(share).toEqual(all);
      expect(all).toHaveLength(Math.min(ROWS, asked.rows));
      expect(all.every(({ inputs }) => asked.carrying === undefined || 'seldom' in inputs)).toBe(true);
    }
    const last = await reading(0, async (window) => (await window.sample({ rows: ROWS, carrying: [] })).rows.find(({ requestId }) => requestId === 'r5'));
    expect(last).toMatchObject({ inputs: { n: -5 }, output: [9] });
  });

  it('writes the same columns, and knows which of them no request has', async () => {
    const write = (keptBytes: number) =>
      reading(keptBytes, async (window) => {
        const path = join(folder, `${String(keptBytes)}.parquet`);
        const absent = await window.write(path);
        const rows = await withDuckDb({}, (db) =>
          db.rows(`SELECT n, "of ""two"" words" AS words, "always null" AS nothing, millrace_answers[1] AS a FROM '${path}' ORDER BY n`),
        );
        return { absent, rows, told: { rows: window.rows, repeated: window.repeated, otherVersions: window.otherVersions } };
      });
    const [all, share] = [await write(EVERYTHING), await write(0)];
    expect(share).toEqual(all);
    expect(all.absent).toEqual(['never sent']);
    expect(all.told).toEqual({ rows: ROWS, repeated: 1, otherVersions: 1 });
    expect(all.rows[0]).toEqual({ n: -5n, words: 'text 5', nothing: null, a: 9 });
  });
});
