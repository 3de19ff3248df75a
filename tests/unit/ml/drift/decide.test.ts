import { describe, expect, it } from 'vitest';
import {
  type ColumnDrift,
  type DomainDrift,
  DriftDecisionSchema,
  type DriftReport,
  DriftSettingsSchema,
  type PastWindow,
} from '../../../../contracts/drift.ts';
import { correct, decideDrift, quietWindow } from '../../../../ml/drift/decide.ts';
import { chiSquareOfHomogeneity, expectedPsi, populationStability, twoProportions } from '../../../../ml/drift/two-samples.ts';
import { createRandom } from '../../../../ml/random.ts';

const HOUR_MS = 3_600_000;
const at = (window: number): string => new Date(Date.UTC(2026, 0, 1) + window * HOUR_MS).toISOString();

/** As `measureDrift` gives it; the last count is missing values. */
function columnOf(column: string, here: readonly number[], there: readonly number[]): ColumnDrift {
  const [n, m] = [here, there].map((counts) => counts.reduce((sum, count) => sum + count, 0)) as [number, number];
  const { psi, bins } = populationStability(here, there);
  const [missing, missingThere] = [here.at(-1) ?? 0, there.at(-1) ?? 0];
  return {
    column,
    psi,
    expectedPsi: expectedPsi(bins, n, m),
    bins: here.map((count, index) => ({ label: `b${index}`, recent: count / n, training: (there[index] ?? 0) / m })),
    nullFraction: { recent: missing / n, training: missingThere / m },
    values: n - missing,
    kind: 'category',
    of: 'input',
    rows: { recent: n, training: m },
    chiSquare: chiSquareOfHomogeneity(here, there),
    nulls: twoProportions(missing, n, missingThere, m),
  };
}
const reportOf = (...columns: ColumnDrift[]): DriftReport => ({
  rows: columns[0]?.rows?.recent ?? 0,
  referenceRows: columns[0]?.rows?.training ?? 0,
  columns,
  skipped: [],
});
const settings = (given: object = {}) => DriftSettingsSchema.parse(given);

/** Rows drawn into so many bins, the rare ones ever rarer; none missing. */
function draw(random: { next(): number }, rows: number, bins: number, skew = 3): number[] {
  const counts = new Array<number>(bins + 1).fill(0);
  for (let i = 0; i < rows; i++) {
    const bin = Math.floor(bins * random.next() ** skew);
    counts[bin] = (counts[bin] as number) + 1;
  }
  return counts;
}

describe('a decision without history', () => {
  it('alarms on undrifted windows of many rare categories no oftener than it says, where an index of 0.2 does on most', () => {
    const random = createRandom(11);
    const there = draw(random, 20_000, 200);
    let [alarms, fixed] = [0, 0];
    const rounds = 300;
    for (let i = 0; i < rounds; i++) {
      const columns = ['a', 'b', 'c'].map((name) => columnOf(name, draw(random, 300, 200), there));
      if (columns.some(({ psi }) => psi > 0.2)) fixed++;
      const decision = decideDrift({
        from: at(i),
        report: reportOf(...columns),
        past: [],
        settings: settings({ falseAlarms: 0.05, leastEffect: { psi: 0, nulls: 0 } }),
      });
      if (decision.verdict === 'drifted') alarms++;
    }
    expect(fixed / rounds).toBeGreaterThan(0.9);
    // 5 % of 300 windows and three standard deviations
    expect(alarms).toBeLessThanOrEqual(15 + 3 * Math.sqrt(15));
  });

  it('finds a category that takes over, an effect that is large enough, and names it', () => {
    const there = [4_000, 3_000, 2_000, 1_000, 0];
    const report = reportOf(columnOf('quiet', [400, 300, 200, 100, 0], there), columnOf('moved', [100, 100, 200, 600, 0], there));
    const decision = decideDrift({ from: at(0), report, past: [], settings: settings() });
    expect(DriftDecisionSchema.parse(decision)).toEqual(decision);
    expect(decision).toMatchObject({ verdict: 'drifted', rows: 1000 });
    expect(decision.columns.map(({ column, drifted }) => [column, drifted])).toEqual([
      ['moved', true],
      ['quiet', false],
    ]);
    expect(decision.columns[0]?.message).toContain('b3: 60 % of the values, 10 % in the reference');
  });

  it('finds missing values', () => {
    const decision = decideDrift({ from: at(0), report: reportOf(columnOf('x', [400, 300, 300], [5_000, 4_900, 100])), past: [], settings: settings() });
    expect(decision.columns[0]?.tests.filter(({ exceeded }) => exceeded).map(({ kind }) => kind)).toEqual(['nulls']);
    expect(decision.columns[0]?.message).toBe('x: 30 % of the values are missing, 1.0 % in the reference');
    const none = decideDrift({ from: at(0), report: reportOf(columnOf('x', [0, 0, 1_000], [5_000, 4_900, 100])), past: [], settings: settings() });
    expect(none).toMatchObject({ verdict: 'drifted', columns: [{ tests: [{ kind: 'nulls' }] }] });
  });

  it('does not alarm on trifles of huge windows, nor on too few rows', () => {
    const trifle = reportOf(columnOf('x', [510_000, 490_000, 0], [500_000, 500_000, 0]));
    const decision = decideDrift({ from: at(0), report: trifle, past: [], settings: settings() });
    expect(decision.columns[0]?.tests[0]?.pValue).toBeLessThan(1e-20);
    expect(decision.verdict).toBe('steady');
    const few = reportOf(columnOf('x', [0, 99, 0], [500, 0, 0]));
    expect(decideDrift({ from: at(0), report: few, past: [], settings: settings() })).toEqual({ from: at(0), rows: 99, verdict: 'too few rows', columns: [] });
    expect(decideDrift({ from: at(0), report: { rows: 500, columns: [], skipped: ['x'] }, past: [], settings: settings() }).verdict).toBe('steady');
  });

  it('says which effect it would have taken', () => {
    const there = [5_000, 5_000, 0];
    const report = (moved: number): DriftReport => reportOf(columnOf('x', [500 + moved, 500 - moved, 0], there));
    const of = (moved: number) => {
      const { columns } = decideDrift({ from: at(0), report: report(moved), past: [], settings: settings() });
      const test = columns[0]?.tests.find(({ kind }) => kind === 'distribution');
      if (test === undefined) throw new Error('no test');
      return test;
    };
    for (const moved of [0, 50, 100, 150, 200, 250, 300, 400]) {
      const { effect, threshold, exceeded } = of(moved);
      expect(exceeded, `${moved}: ${effect} of ${threshold ?? ''}`).toBe(effect >= (threshold ?? 0));
    }
  });
});

describe('a decision with history', () => {
  /** Windows whose true shares wander: more than rows that are drawn from one distribution would. */
  function wander(windows: number, seed: number, season = (_window: number): number => 0): { from: string; report: DriftReport }[] {
    const random = createRandom(seed);
    let level = 0;
    return Array.from({ length: windows }, (_, window) => {
      level = 0.8 * level + 0.12 * random.normal();
      const share = 1 / (1 + Math.exp(-level - season(window)));
      let hits = 0;
      for (let i = 0; i < 2_000; i++) if (random.next() < share) hits++;
      return { from: at(window), report: reportOf(columnOf('x', [hits, 2_000 - hits, 0], [50_000, 50_000, 0])) };
    });
  }
  const run = (windows: readonly { from: string; report: DriftReport }[], given: object = {}) => {
    const past: PastWindow[] = [];
    return windows.map(({ from, report }) => {
      const decision = decideDrift({ from, report, past, settings: settings({ leastEffect: { psi: 0.005 }, ...given }) });
      past.unshift(decision);
      return decision;
    });
  };

  it('takes the threshold from earlier windows: autocorrelated ones do not alarm, a greater move does', () => {
    const windows = wander(400, 5);
    const decisions = run(windows);
    const later = decisions.slice(100);
    expect(later.filter(({ verdict }) => verdict === 'drifted').length / later.length).toBeLessThanOrEqual(0.03);
    // by theory alone most of them would
    const alone = windows.map(({ from, report }) => decideDrift({ from, report, past: [], settings: settings({ leastEffect: { psi: 0.002 } }) }));
    expect(alone.filter(({ verdict }) => verdict === 'drifted').length / windows.length).toBeGreaterThan(0.3);
    const moved = decideDrift({
      from: at(600),
      report: reportOf(columnOf('x', [1_900, 100, 0], [50_000, 50_000, 0])),
      past: [...decisions].reverse(),
      settings: settings(),
    });
    expect(moved).toMatchObject({ verdict: 'drifted', columns: [{ tests: [{ calibration: 'history' }, {}] }] });
  });

  it('holds a window against the same hour of other days', () => {
    const season = (window: number): number => (window % 24 < 3 ? 2.5 : 0);
    const past = [...run(wander(24 * 20, 7, season))].reverse();
    // what is usual at night is not at noon
    const night = reportOf(columnOf('x', [1_840, 160, 0], [50_000, 50_000, 0]));
    const first = 24 * 20;
    expect(decideDrift({ from: at(first + 1), report: night, past, settings: settings() }).verdict).toBe('steady');
    expect(decideDrift({ from: at(first + 12), report: night, past, settings: settings() }).verdict).toBe('drifted');
    expect(decideDrift({ from: at(first + 12), report: night, past, settings: settings({ season: 'none' }) }).verdict).toBe('steady');
    // no week is over yet that could be told from another: all windows are alike
    expect(decideDrift({ from: at(first + 12), report: night, past: past.slice(0, 100), settings: settings({ season: 'hourOfWeek' }) }).verdict).toBe('steady');
  });

  it('goes on alarming while a drift lasts, and counts windows in a row', () => {
    const before = wander(100, 9);
    const after = Array.from({ length: 80 }, (_, i) => ({ from: at(100 + i), report: reportOf(columnOf('x', [1_960, 40, 0], [50_000, 50_000, 0])) }));
    const decisions = run([...before, ...after], { windowsInARow: 3 }).slice(100);
    expect(decisions.slice(0, 4).map(({ verdict }) => verdict)).toEqual(['steady', 'steady', 'drifted', 'drifted']);
    expect(decisions.slice(0, 4).map(({ columns }) => columns[0]?.streak)).toEqual([1, 2, 3, 4]);
    expect(decisions.slice(2).every(({ verdict }) => verdict === 'drifted')).toBe(true);
  });

  describe.each(['hourOfDay', 'none'] as const)('of windows of very different size (season %s)', (season) => {
    const random = createRandom(21);
    const bins = 10;
    const there = draw(random, 200_000, bins, 1);
    /** Rows of bins whose shares differ a little from the reference's in each window: more than rows drawn by lot. */
    const wandering = (rows: number, moved = 0): DriftReport => {
      const shares = Array.from({ length: bins }, (_, bin) => Math.exp(0.05 * random.normal() + moved * (bin - bins / 2)));
      const total = shares.reduce((sum, share) => sum + share, 0);
      const counts = new Array<number>(bins + 1).fill(0);
      for (let i = 0; i < rows; i++) {
        let left = random.next() * total;
        let bin = 0;
        while (bin < bins - 1 && left >= (shares[bin] as number)) left -= shares[bin++] as number;
        counts[bin] = (counts[bin] as number) + 1;
      }
      return reportOf(columnOf('x', counts, there));
    };
    const rowsAt = (window: number): number => (window % 24 < 6 ? 120 : 3_000);
    const days = 10;
    const given = { season, leastEffect: { psi: 0.02 } };
    const quiet = (rows: (window: number) => number): PastWindow[] =>
      Array.from({ length: 24 * days }, (_, window) => quietWindow(at(window), wandering(rows(window)))).reverse();

    it('raises no threshold of a large one by the noise of small ones, and finds what moves it', () => {
      const decide = (past: PastWindow[], report: DriftReport) => decideDrift({ from: at(24 * days + 12), report, past, settings: settings(given) });
      const thresholdOf = (past: PastWindow[]): number => decide(past, wandering(3_000)).columns[0]?.tests[0]?.threshold ?? Number.NaN;
      const [mixed, alike] = [quiet(rowsAt), quiet(() => 3_000)];
      // by the effects as they are it would be that of the nights: above 0.25
      expect(thresholdOf(mixed)).toBeLessThan(2 * thresholdOf(alike));
      for (let round = 0; round < 10; round++) expect(decide(mixed, wandering(3_000, 0.08)).verdict).toBe('drifted');
    });

    it('alarms on quiet ones, small and large, no oftener than it says', () => {
      const past = quiet(rowsAt);
      const alarms = { small: 0, large: 0 };
      const rounds = 120;
      for (let round = 0; round < rounds; round++) {
        for (const [size, hour] of [
          ['small', 2],
          ['large', 12],
        ] as const) {
          const report = wandering(rowsAt(hour));
          if (decideDrift({ from: at(24 * days + hour), report, past, settings: settings(given) }).verdict === 'drifted') alarms[size]++;
        }
      }
      // one in a hundred, and three standard deviations
      const most = rounds * 0.01 + 3 * Math.sqrt(rounds * 0.01);
      expect(alarms.small).toBeLessThanOrEqual(most);
      expect(alarms.large).toBeLessThanOrEqual(most);
    });
  });

  it('takes looks a moment before and after the full hour for the same hour', () => {
    const past = Array.from({ length: 24 * 10 }, (_, window) => ({
      ...quietWindow(at(window), reportOf(columnOf('x', window % 24 === 12 ? [1_900, 100, 0] : [1_000, 1_000, 0], [50_000, 50_000, 0]))),
      from: new Date(Date.parse(at(window)) + (window % 2 === 0 ? -700 : 700)).toISOString(),
    })).reverse();
    const noon = reportOf(columnOf('x', [1_900, 100, 0], [50_000, 50_000, 0]));
    const decide = (shiftMs: number) =>
      decideDrift({ from: new Date(Date.parse(at(24 * 10 + 12)) + shiftMs).toISOString(), report: noon, past, settings: settings() }).verdict;
    expect([decide(-700), decide(700), decide(-3_600_000)]).toEqual(['steady', 'steady', 'drifted']);
  });

  it('does not judge answers by an evaluation alone until earlier windows say what is usual', () => {
    const answers: ColumnDrift = { ...columnOf('output[1]', [1_900, 100, 0], [5_000, 5_000, 0]), of: 'output', exact: false };
    const decision = decideDrift({ from: at(0), report: reportOf(answers), past: [], settings: settings() });
    expect(decision).toMatchObject({ verdict: 'steady', columns: [{ column: 'output[1]', exceeded: false }] });
    expect(decision.columns[0]?.tests[0]?.adjustedPValue).toBeLessThan(1e-9);
    const usual = { ...columnOf('output[1]', [1_010, 990, 0], [5_000, 5_000, 0]), of: 'output' as const, exact: false };
    const past = Array.from({ length: 30 }, (_, window) => quietWindow(at(window), reportOf(usual))).reverse();
    expect(decideDrift({ from: at(30), report: reportOf(answers), past, settings: settings() }).verdict).toBe('drifted');
    expect(decideDrift({ from: at(0), report: reportOf({ ...answers, exact: true }), past: [], settings: settings() }).verdict).toBe('drifted');
  });

  it('takes windows without decisions for quiet ones', () => {
    const past = wander(60, 13).map(({ from, report }) => quietWindow(from, report));
    expect(past.every(({ columns }) => columns.every(({ exceeded }) => !exceeded))).toBe(true);
    const decision = decideDrift({ from: at(60), report: wander(61, 13)[60]!.report, past, settings: settings({ leastEffect: { psi: 0.005 } }) });
    expect(decision.columns[0]?.tests[0]).toMatchObject({ calibration: 'history', historyWindows: 60 });
  });

  it('reads figures of windows from before there were rows and tests in them', () => {
    const { rows: _rows, nulls: _nulls, chiSquare: _chi, kind: _kind, of: _of, ...old } = columnOf('x', [100, 900, 0], [5_000, 5_000, 0]);
    const decision = decideDrift({ from: at(0), report: { rows: 1_000, referenceRows: 10_000, columns: [old], skipped: [] }, past: [], settings: settings() });
    expect(decision.verdict).toBe('drifted');
  });
});

describe('many tests', () => {
  // statsmodels 0.14.5: multipletests([0.01, 0.04, 0.03, 0.005, 0.5], method='holm' | 'fdr_bh')
  const pValues = [0.01, 0.04, 0.03, 0.005, 0.5];
  it.each([
    ['holm', [0.04, 0.09, 0.09, 0.025, 0.5]],
    ['benjaminiHochberg', [0.025, 0.05, 0.05, 0.025, 0.5]],
    ['none', pValues],
  ] as const)('are corrected by %s', (correction, wanted) => {
    correct(pValues, { correction }).forEach((p, index) => {
      expect(p).toBeCloseTo(wanted[index] ?? 0, 12);
    });
  });

  it('take a domain classifier into account', () => {
    const domain: DomainDrift = {
      rows: { training: 5_000, recent: 5_000 },
      auc: 0.7,
      low: 0.69,
      high: 0.71,
      confidence: 0.95,
      pValue: 1e-200,
      classifier: 'gbdt',
      columns: [{ column: 'x', share: 1 }],
    };
    const report = reportOf(columnOf('x', [500, 500, 0], [5_000, 5_000, 0]));
    const decision = decideDrift({ from: at(0), report, domain, past: [], settings: settings() });
    expect(decision).toMatchObject({
      verdict: 'drifted',
      columns: [
        { column: '*', tests: [{ kind: 'domain', exceeded: true }] },
        { column: 'x', exceeded: false },
      ],
    });
    expect(decision.columns[0]?.message).toContain('most by x');
    expect(decideDrift({ from: at(0), report, domain: { ...domain, auc: 0.3, low: 0.29, high: 0.31 }, past: [], settings: settings() }).verdict).toBe('steady');
  });
});
