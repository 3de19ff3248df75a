import { randomBytes } from 'node:crypto';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createWindowMemory, type WindowMemory } from '../../activities/window-memory.ts';
import type { DriftDecision, DriftReport } from '../../contracts/drift.ts';
import type { WindowFigures } from '../../contracts/monitoring.ts';
import type { MonitoringStore } from '../../store/monitoring.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

const HOURS = 60;
const at = (hour: number): string => new Date(Date.UTC(2026, 0, 1, hour)).toISOString();
const DRIFT: DriftReport = {
  rows: 100,
  referenceRows: 100,
  columns: [
    {
      column: 'distance',
      kind: 'number',
      psi: 0.1,
      expectedPsi: 0.01,
      bins: [
        { label: '≤ 1', recent: 0.25, training: 0.5 },
        { label: '> 1', recent: 0.75, training: 0.5 },
        { label: 'missing', recent: 0, training: 0 },
      ],
      nullFraction: { recent: 0, training: 0 },
      values: 100,
    },
  ],
  skipped: [],
};
const TEST = { kind: 'distribution', effect: 0.01, chance: 0.02, pValue: 0.4, calibration: 'theory', exceeded: false } as const;
const decision = (from: string): DriftDecision => ({
  from,
  rows: 100,
  verdict: 'steady',
  columns: [
    {
      column: 'distance',
      drifted: false,
      exceeded: false,
      streak: 0,
      message: 'it is as it was',
      tests: [{ ...TEST, threshold: 0.1, adjustedPValue: 0.8, historyWindows: 0 }],
    },
  ],
});

let store: Store;
let endpoint: string;
/** The store's own functions, and how many windows were read by each. */
let counting: MonitoringStore;
let read = { figures: 0, decisions: 0, drift: 0 };
let memory: WindowMemory;
beforeAll(async () => {
  store = await freshStore();
  const { monitoring } = store;
  const counted = <Input, Row>(kind: keyof typeof read, of: (input: Input) => Promise<readonly Row[]>) => {
    return async (input: Input): Promise<readonly Row[]> => {
      const rows = await of(input);
      read[kind] += rows.length;
      return rows;
    };
  };
  counting = {
    ...monitoring,
    listWindows: counted('figures', (input: Parameters<MonitoringStore['listWindows']>[0]) => monitoring.listWindows(input)),
    windowDecisions: counted('decisions', (input: Parameters<MonitoringStore['windowDecisions']>[0]) => monitoring.windowDecisions(input)),
    windowDrift: counted('drift', (input: Parameters<MonitoringStore['windowDrift']>[0]) => monitoring.windowDrift(input)),
  };
});
const put = (hour: number, more: Partial<WindowFigures> = {}, version = 2): Promise<void> =>
  store.monitoring.putWindow({
    endpoint,
    from: at(hour),
    to: at(hour + 1),
    figures: { rows: 100, version: { model: 'late', version }, verdict: 'steady', drift: DRIFT, decision: decision(at(hour)), ...more },
    drifted: false,
  });
beforeEach(async () => {
  endpoint = `e${randomBytes(4).toString('hex')}`;
  memory = createWindowMemory(counting);
  for (let hour = 0; hour < HOURS; hour++) await put(hour);
  read = { figures: 0, decisions: 0, drift: 0 };
});
afterEach(() => {
  vi.useRealTimers();
});
const windows = (most = 40) => memory.windows({ endpoint, before: at(1_000), most });
const decisions = (of: Partial<Parameters<WindowMemory['decisions']>[0]> = {}) =>
  memory.decisions({ endpoint, model: 'late', version: 2, until: at(HOURS), season: 'hourOfDay', ...of });

describe('the windows before a look', () => {
  it('are the stored ones, newest first, and read once', async () => {
    const first = await windows();
    expect(first.map(({ from }) => from)).toEqual(Array.from({ length: 40 }, (_, i) => at(HOURS - 1 - i)));
    expect(first[0]?.figures).toMatchObject({ rows: 100, version: { model: 'late', version: 2 }, verdict: 'steady' });
    expect(read.figures).toBe(40);
    expect(await windows()).toEqual(first);
    expect(read.figures).toBe(40);
    expect((await memory.windows({ endpoint, before: at(HOURS), most: 5 }))[0]?.from).toBe(at(HOURS - 2));
    expect(read.figures).toBe(40);
  });

  it('are read again where they were written since, by whomever, are gone where they were dropped, and left out where they are something else', async () => {
    await windows();
    await put(HOURS - 1, { rows: 7 });
    await put(HOURS, { rows: 8 });
    expect((await windows()).slice(0, 3).map(({ figures: { rows } }) => rows)).toEqual([8, 7, 100]);
    expect(read.figures).toBe(42);
    await store.monitoring.dropWindowsAfter({ endpoint, after: at(HOURS) });
    await store.monitoring.putWindow({ endpoint, from: at(HOURS - 2), to: at(HOURS - 1), figures: { what: 'is this' }, drifted: false });
    expect((await windows()).slice(0, 2).map(({ from }) => from)).toEqual([at(HOURS - 1), at(HOURS - 3)]);
  });

  it('are forgotten five minutes after a look, and where they are more than the bound', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    await windows();
    vi.advanceTimersByTime(299_000);
    await windows();
    expect(read.figures).toBe(40);
    vi.advanceTimersByTime(301_000);
    await windows();
    expect(read.figures).toBe(80);

    memory = createWindowMemory(counting, { mostColumns: 20 });
    await windows(3);
    await windows(3);
    expect(read.figures).toBe(83);
    await windows(30);
    await windows(30);
    expect(read.figures).toBe(83 + 27 + 30);
  });
});

describe('the decisions before a look', () => {
  it('are those of the version until then, newest first, read once; those of the season have their bins', async () => {
    await put(HOURS - 2, {}, 1);
    const undecided = { rows: 3, version: { model: 'late', version: 2 } };
    await store.monitoring.putWindow({ endpoint, from: at(HOURS - 4), to: at(HOURS - 3), figures: undecided, drifted: false });
    const first = await decisions();
    const hours = Array.from({ length: HOURS }, (_, i) => HOURS - 1 - i).filter((hour) => hour !== HOURS - 2 && hour !== HOURS - 4);
    expect(first.map(({ from }) => from)).toEqual(hours.map(at));
    expect(first[0]?.columns[0]?.tests).toEqual([TEST]);
    const withBins = first.filter(({ columns }) => columns[0]?.bins !== undefined);
    expect(withBins.map(({ from }) => from)).toEqual([at(36), at(12)]);
    expect(withBins[0]?.columns[0]?.bins).toEqual({ labels: ['≤ 1', '> 1'], counts: [25, 75] });
    expect(read).toEqual({ figures: 0, decisions: HOURS, drift: 2 });
    expect(await decisions()).toEqual(first);
    expect(await decisions({ version: 1 })).toHaveLength(1);
    expect((await decisions({ until: at(10) })).map(({ from }) => from)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map(at));
    expect(read.decisions).toBe(HOURS);
    await put(HOURS);
    expect(await decisions({ until: at(HOURS + 1) })).toHaveLength(HOURS - 1);
    expect(read.decisions).toBe(HOURS + 1);
  });

  it('go by artifacts, each read once, of which the ones asked for last are at hand', async () => {
    let reads = 0;
    const ask = (id: string) =>
      memory.artifact(id, () => {
        reads++;
        return Promise.resolve({ id });
      });
    const first = await ask('a');
    expect(await ask('a')).toBe(first);
    expect(reads).toBe(1);
    for (let i = 0; i < 24; i++) await ask(String(i));
    expect(await ask('23')).toEqual({ id: '23' });
    expect(reads).toBe(25);
    await ask('a');
    expect(reads).toBe(26);
    await expect(memory.artifact('bad', () => Promise.reject(new Error('is gone')))).rejects.toThrow('is gone');
    expect(await ask('bad')).toEqual({ id: 'bad' });
  });

  it('of the training rows are kept under what they depend on', () => {
    const quiet = [{ from: at(0), columns: [] }];
    expect(memory.trained(endpoint, 'a')).toBeUndefined();
    memory.keepTrained(endpoint, 'a', quiet);
    expect(memory.trained(endpoint, 'a')).toBe(quiet);
    expect(memory.trained(endpoint, 'b')).toBeUndefined();
  });
});
