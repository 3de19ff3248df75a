import { describe, expect, it } from 'vitest';
import { findingsOf, type FoundWindow, isMeasured } from '../../../activities/monitor-findings.ts';
import type { ColumnDecision, ColumnDrift } from '../../../contracts/drift.ts';
import { FindingSchema, type MonitorOptionsInput, MonitorOptionsSchema, type WindowFigures } from '../../../contracts/monitoring.ts';

const HOUR_MS = 3_600_000;
const at = (hour: number): string => new Date(Date.UTC(2026, 0, 1) + hour * HOUR_MS).toISOString();
const options = (given: Partial<MonitorOptionsInput> = {}) => MonitorOptionsSchema.parse({ endpoint: 'late', everyMs: HOUR_MS, ...given });
const version = { model: 'late', version: 1 };

/** Windows newest first, each judged with those before it. */
function judged(given: Partial<MonitorOptionsInput>, ...all: readonly Partial<WindowFigures>[]): readonly FoundWindow[] {
  let past: readonly FoundWindow[] = [];
  all.forEach((figures, hour) => {
    const window = { from: at(hour), to: at(hour + 1), figures: { rows: 1_000, version, ...figures } };
    const findings = findingsOf(window, past, options(given));
    past = [{ ...window, figures: { ...window.figures, findings } }, ...past];
  });
  return past;
}
const newest = (windows: readonly FoundWindow[]) => windows[0]?.figures.findings ?? [];
const auc = (value: number): Partial<WindowFigures> => ({
  quality: {
    state: 'judged',
    rows: 1_000,
    labelled: 500,
    unknownLabels: 0,
    unusableAnswers: 0,
    metrics: { auc: value },
    intervals: { auc: { low: value - 0.05, high: value + 0.05, method: 'bootstrap' } },
    confidence: 0.95,
    withoutValue: [],
    slices: [],
  },
});
const unlabelled: Partial<WindowFigures> = { quality: null };

const column = (name: string, psi: number): ColumnDrift => ({
  column: name,
  psi,
  expectedPsi: 0.01,
  bins: [],
  nullFraction: { training: 0, recent: 0 },
  values: 1_000,
});
const drifted = (name: string, exceeded: boolean, effect = 0.4): ColumnDecision => ({
  column: name,
  exceeded,
  drifted: exceeded,
  streak: exceeded ? 1 : 0,
  tests: [
    { kind: 'distribution', effect, chance: 0.01, threshold: 0.1, pValue: 1e-9, adjustedPValue: 1e-8, calibration: 'history', historyWindows: 40, exceeded },
  ],
  message: `${name}: PSI ${effect.toFixed(3)}`,
});
const drift = (...columns: readonly { readonly name: string; readonly psi: number; readonly exceeded: boolean }[]): Partial<WindowFigures> => ({
  drift: { rows: 1_000, columns: columns.map(({ name, psi }) => column(name, psi)), skipped: [] },
  decision: { from: at(0), rows: 1_000, verdict: 'steady', columns: columns.map(({ name, exceeded, psi }) => drifted(name, exceeded, psi)) },
});

describe('what is the matter in a window', () => {
  it('is nothing where nothing is past its bound, and told with its figures where something is', () => {
    expect(newest(judged({}, drift({ name: 'distance', psi: 0.4, exceeded: false })))).toEqual([]);
    const [found] = newest(judged({ retrainOn: { auc: { below: 0.6 } } }, auc(0.5)));
    expect(FindingSchema.parse(found)).toEqual({
      check: 'quality',
      kind: 'quality',
      subject: 'auc',
      what: 'auc is 0.5000, below 0.6',
      value: 0.5,
      limit: 0.6,
      against: 'the bound 0.6',
      since: at(0),
      sure: 'interval 0.4500 to 0.5500, 500 labelled rows',
      firing: true,
      windowsInARow: 1,
      retrain: true,
    });
  });

  it('fires after so many windows in a row; one in which it could not be measured neither ends the streak nor counts', () => {
    const rule = { alertOn: { auc: { below: 0.6, windows: 3 } } };
    const states = (...all: readonly Partial<WindowFigures>[]) =>
      newest(judged(rule, ...all)).map(({ windowsInARow, firing, since }) => [windowsInARow, firing, since]);
    expect(states(auc(0.5), auc(0.5))).toEqual([[2, false, at(0)]]);
    expect(states(auc(0.5), unlabelled, auc(0.5), auc(0.5))).toEqual([[3, true, at(0)]]);
    expect(states(auc(0.5), auc(0.7), auc(0.5))).toEqual([[1, false, at(2)]]);
    expect(states(auc(0.5), auc(0.5), unlabelled)).toEqual([]);
  });

  it('goes by the whole interval where the rule asks for that', () => {
    const judge = (value: number) => newest(judged({ alertOn: { auc: { below: 0.6, judge: 'interval' } } }, auc(value))).length;
    expect([judge(0.5), judge(0.57)]).toEqual([1, 0]);
  });

  it('has alerts and retrainings by rules of their own', () => {
    const [found] = newest(judged({ alertOn: { auc: { below: 0.65 } }, retrainOn: { auc: { below: 0.6, windows: 2 } } }, auc(0.5)));
    expect(found).toMatchObject({ firing: true, retrain: false, limit: 0.6 });
    const [mild] = newest(judged({ alertOn: { auc: { below: 0.65 } }, retrainOn: { auc: { below: 0.6 } } }, auc(0.62)));
    expect(mild).toMatchObject({ firing: true, retrain: false, limit: 0.65 });
  });

  it('has the drift of columns by calibrated tests, or by a fixed index, which is told where both are asked for', () => {
    const window = drift({ name: 'distance', psi: 0.4, exceeded: true }, { name: 'origin', psi: 0.3, exceeded: false });
    expect(newest(judged({}, window)).map(({ subject, firing, retrain }) => [subject, firing, retrain])).toEqual([['distance', true, false]]);
    expect(newest(judged({ retrainOn: { drift: 'calibrated' } }, window))).toMatchObject([{ subject: 'distance', firing: true, retrain: true }]);
    const fixed = newest(judged({ alertOn: { drift: { psi: 0.25 } } }, window, window));
    expect(fixed.map(({ subject, what }) => [subject, what])).toEqual([
      ['distance', 'distance drifted: PSI 0.400 over 0.25'],
      ['origin', 'origin drifted: PSI 0.300 over 0.25'],
    ]);
    // answers that are held against an evaluation are told by calibrated tests alone
    const answers = { ...window, drift: { rows: 1_000, skipped: [], columns: [{ ...column('output[1]', 0.9), of: 'output' as const, exact: false }] } };
    expect(newest(judged({ alertOn: { drift: { psi: 0.25 } } }, answers))).toEqual([]);
    expect(newest(judged({ alertOn: { drift: { psi: 0.25 } }, retrainOn: { drift: 'calibrated' } }, window)).map(({ subject }) => subject)).toEqual([
      'distance',
      'origin',
    ]);
  });

  it('names a column that requests do not have any more', () => {
    const changed: Partial<WindowFigures> = { drift: { rows: 1_000, columns: [], skipped: ['origin', 'date'], reasons: { origin: 'missing', date: 'time' } } };
    expect(newest(judged({}, changed))).toMatchObject([
      { check: 'schema', kind: 'data', subject: 'origin', what: 'origin is in no request any more', firing: true },
    ]);
  });

  it('has what outcomes, the estimate, the system and detectors show', () => {
    const figures: Partial<WindowFigures> = {
      outcomes: { cost: { rows: 10, sum: 100, mean: 10, low: 9, high: 11 } },
      estimated: {
        state: 'estimated',
        rows: 1_000,
        unusableAnswers: 0,
        beyond: 0,
        confidence: 0.95,
        confusion: null,
        metrics: { auc: { value: 0.55, low: 0.5, high: 0.6, samplingDeviation: 0.01, calibrationDeviation: 0.01 } },
      },
      system: { requests: 1_000, errors: 30, errorRate: 0.03, latencyMsP50: 1, latencyMsP95: 2, latencyMsP99: 80 },
      detectors: {
        quick: { state: { kind: 'pageHinkley' } as never, values: 10, changes: 2 },
        calm: { state: { kind: 'pageHinkley' } as never, values: 10, changes: 0 },
      },
    };
    const rules = { outcomes: { cost: { above: 5 } }, estimated: { auc: { below: 0.6 } }, errorRate: { above: 0.01 }, latencyMsP99: { above: 50 } };
    expect(newest(judged({ alertOn: rules }, figures)).map(({ check, subject, kind }) => [check, subject, kind])).toEqual([
      ['estimated', 'estimated auc', 'quality'],
      ['outcome', 'cost', 'quality'],
      ['system', 'errorRate', 'system'],
      ['system', 'latencyMsP99', 'system'],
      ['detector', 'quick', 'drift'],
    ]);
    expect(newest(judged({}, figures)).map(({ subject }) => subject)).toEqual(['quick']);
    expect(newest(judged({ alertOn: { detectors: false } }, figures))).toMatchObject([{ subject: 'quick', firing: false }]);
  });

  it('could only be shown by a window that measured it', () => {
    const measured = (figures: Partial<WindowFigures>) =>
      (['quality', 'estimated', 'outcome', 'skew', 'drift', 'data', 'detector', 'system'] as const).filter((check) =>
        isMeasured({ check, subject: check === 'estimated' ? 'estimated auc' : 'auc' }, { rows: 1, version, ...figures }),
      );
    expect(measured({})).toEqual([]);
    expect(measured({ ...auc(0.6), ...drift() })).toEqual(['quality', 'drift']);
    expect(measured({ skew: { rows: 0, differing: 0, greatest: 0, columns: [], example: null, why: 'none' }, data: null })).toEqual([]);
  });
});
