import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { changeBehind, changeInWindows } from '../../activities/change-in-windows.ts';
import type { FoundWindow } from '../../activities/monitor-findings.ts';
import type { WindowFigures } from '../../contracts/monitoring.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

const at = (n: number): string => new Date(Date.UTC(2026, 0, 1 + n)).toISOString();
const quality = (auc: number): WindowFigures => ({
  rows: 1_000,
  version: { model: 'late', version: 2 },
  quality: {
    state: 'judged',
    rows: 1_000,
    labelled: 1_000,
    unknownLabels: 0,
    unusableAnswers: 0,
    metrics: { auc },
    intervals: {},
    confidence: null,
    withoutValue: [],
    slices: [],
  },
});
/** Days of which the last five are worse. */
const days = (version = 2): readonly FoundWindow[] =>
  Array.from({ length: 20 }, (_, n) => ({
    from: at(n),
    to: at(n + 1),
    figures: { ...quality((n < 15 ? 0.8 : 0.7) + (n % 3) / 500), version: { model: 'late', version } },
  })).reverse();

describe('since when things are otherwise', () => {
  it('is where the newest level of the figure begins, and is told with what showed it', () => {
    const change = changeBehind({ check: 'quality', subject: 'auc' }, days());
    expect(change).toEqual({ at: at(15), found: 'auc went from 0.802 to 0.702, by optimal partitioning of 20 windows' });
    expect(changeBehind({ check: 'quality', subject: 'accuracy' }, days())).toBeNull();
    expect(changeBehind({ check: 'skew', subject: 'distance' }, days())).toBeNull();
    expect(changeBehind({ check: 'quality', subject: 'auc' }, days().slice(5))).toBeNull();
  });

  describe("of a pipeline's endpoints", () => {
    let store: Store;
    beforeAll(async () => {
      store = await freshStore();
      for (const [pipeline, endpoint] of [
        ['watched', 'late'],
        ['watched', 'quiet'],
        ['another', 'other'],
      ] as const) {
        const runId = randomBytes(16).toString('hex');
        await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline, params: {}, trigger: { kind: 'cli' } });
        await store.monitoring.putMonitor({ endpoint, config: {}, runId });
      }
      for (const { from, to, figures } of days()) await store.monitoring.putWindow({ endpoint: 'late', from, to, figures, drifted: false });
      for (const { from, to } of days()) await store.monitoring.putWindow({ endpoint: 'quiet', from, to, figures: quality(0.8), drifted: false });
    });

    it('is the latest that their stored windows show of one version', async () => {
      expect(await changeInWindows(store, 'watched')).toMatchObject({ endpoint: 'late', at: at(15) });
      expect((await store.monitoring.listMonitors({ pipeline: 'watched' })).map(({ endpoint }) => endpoint)).toEqual(['late', 'quiet']);
      // a new champion: its windows are too few to show any
      const newer = { ...quality(0.7), version: { model: 'late', version: 3 } };
      await store.monitoring.putWindow({ endpoint: 'late', from: at(20), to: at(21), figures: newer, drifted: false });
      expect(await changeInWindows(store, 'watched')).toBeNull();
    });

    it('is not known where a pipeline watches nothing', async () => {
      expect(await changeInWindows(store, 'another')).toBeNull();
      expect(await changeInWindows(store, 'none')).toBeNull();
    });
  });
});
