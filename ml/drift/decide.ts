/**
 * Whether columns have drifted, from the figures of a window and the decisions of earlier ones.
 *
 * For each column up to three tests: of the distribution of its values against the reference's, the same against that of earlier windows of its
 * season put together, and of how many are missing; and one for all columns together where a domain classifier looked. A test's p-value is the greater one of
 *   - theory: what chance makes of so many rows if both sides come from one distribution (chi-square over bins that are merged until
 *     each expects five rows; two shares; DeLong), and
 *   - history: how often earlier windows had so great an effect. Real rows of an hour are not drawn from the training distribution: they
 *     are alike, and seasons come and go. Beyond the greatest effects seen, by the power law that their upper tail follows.
 * The p-values are corrected for their number; a column is over its threshold where its corrected p-value is at most `falseAlarms` and
 * its effect at least `leastEffect`.
 *
 * Invariants:
 * 1. Pure: the same figures and earlier windows give the same decision.
 * 2. Until there are enough earlier windows an effect has to be three times `leastEffect`: how much quiet windows differ is not known yet. Answers
 *    that are held against an evaluation's alone are not judged until then: an evaluation has no hours, and training rows no answers.
 * 3. While a column is over its threshold, that threshold stays: windows of the drift are not held against one another. Later they count, or
 *    thresholds would sink with each false alarm; but for those that were drifted beyond doubt.
 */
import type {
  BinCounts,
  ColumnDecision,
  ColumnDrift,
  DomainDrift,
  DriftDecision,
  DriftReport,
  DriftSettings,
  DRIFT_TESTS,
  PastWindow,
} from '../../contracts/drift.ts';
import { chiSquareUpperQuantile } from './distributions.ts';
import { normalQuantile } from '../evaluation/normal.ts';
import { type BinEffect, binCounts, binEffect, LEAST_SEASON, putTogether, seasonOf } from './season.ts';

export interface DriftInput {
  /** Start of the window, UTC ISO. */
  readonly from: string;
  readonly report: DriftReport;
  readonly domain?: DomainDrift;
  /** Decisions on earlier windows, newest first. */
  readonly past: readonly PastWindow[];
  readonly settings: DriftSettings;
}

type Kind = (typeof DRIFT_TESTS)[number];

/** One test before the correction. */
interface Test {
  readonly column: string;
  readonly kind: Kind;
  readonly effect: number;
  /** Standard deviation of the effect by chance alone. */
  readonly chance: number;
  readonly theory: number;
  /** Is over no threshold where no earlier window says what is usual. */
  readonly needsHistory: boolean;
  /** The least effect whose p-value by theory is at most p. */
  readonly theoryThreshold: (p: number) => number;
  readonly message: string;
}

/** The column name of all columns together. */
const ALL_COLUMNS = '*';
/** Times `leastEffect` where there is no history. */
const WITHOUT_HISTORY = 3;
/** An effect this improbable was a drift beyond doubt: later windows are not held against it. */
const BEYOND_DOUBT = 1e-6;

/**
 * Earlier windows as `decideDrift` takes them, from their figures alone: of training rows by window (`measureDriftByWindow`), or of windows from
 * before decisions were stored. All of them are taken for quiet.
 */
export function quietWindow(from: string, report: DriftReport): PastWindow {
  const tests = report.columns.flatMap((column) => testsOf(column, report));
  return {
    from,
    columns: report.columns.map(({ column, ...figures }) => ({
      column,
      exceeded: false,
      ...withBins(binCounts({ column, ...figures }, report.rows)),
      tests: tests.flatMap((test) =>
        test.column === column
          ? [{ kind: test.kind, effect: test.effect, chance: test.chance, pValue: test.theory, calibration: 'theory' as const, exceeded: false }]
          : [],
      ),
    })),
  };
}

/** A decision on an earlier window with the bins of its figures, so that it can be one of its season. */
export function withReport(decision: PastWindow, report: DriftReport): PastWindow {
  const figures = new Map(report.columns.map((column) => [column.column, column]));
  return {
    ...decision,
    columns: decision.columns.map((one) => {
      const column = figures.get(one.column);
      return { ...one, ...withBins(column === undefined ? undefined : binCounts(column, report.rows)) };
    }),
  };
}

const withBins = (bins: BinCounts | undefined): { readonly bins?: BinCounts } => (bins === undefined ? {} : { bins });

/** What each column's figures come to, and whether the window has drifted. Columns in the order of their p-values. */
export function decideDrift({ from, report, domain, past: given, settings }: DriftInput): DriftDecision {
  if (report.rows < settings.leastRows) return { from, rows: report.rows, verdict: 'too few rows', columns: [] };
  const { past, usual } = putTogether(quiet(given), settings);
  const { season } = seasonOf(from, settings);
  const seasonal = report.columns.flatMap((column) => {
    const bins = binCounts(column, report.rows);
    const together = bins === undefined ? undefined : usual(column.column, season, bins);
    return bins === undefined || together === undefined ? [] : seasonTest(column, bins, together);
  });
  const tests = [...report.columns.flatMap((column) => testsOf(column, report)), ...seasonal, ...(domain === undefined ? [] : [domainTest(domain)])];
  const historyOf = historyReader(from, past, settings);
  const judged = tests.map((test) => {
    const history = historyOf(test);
    return { test, history, pValue: Math.max(test.theory, history?.tail.pValue(test.effect) ?? 0) };
  });
  const adjusted = correct(
    judged.map(({ pValue }) => pValue),
    settings,
  );
  const level = settings.falseAlarms / (settings.correction === 'none' ? 1 : Math.max(1, tests.length));
  const columns = [...new Set(tests.map(({ column }) => column))].map((column): ColumnDecision => {
    const decided = judged.flatMap(({ test, history, pValue }, index) => {
      if (test.column !== column) return [];
      const floor = floorOf(test.kind, settings) * (history === undefined ? WITHOUT_HISTORY : 1);
      const adjustedPValue = adjusted[index] ?? 1;
      const threshold = Math.max(floor, test.theoryThreshold(level), history?.tail.effectAt(level) ?? 0);
      return [
        {
          kind: test.kind,
          effect: test.effect,
          chance: test.chance,
          threshold: Number.isFinite(threshold) ? threshold : null,
          pValue,
          adjustedPValue,
          calibration: history === undefined ? ('theory' as const) : ('history' as const),
          historyWindows: history?.windows ?? 0,
          exceeded: adjustedPValue <= settings.falseAlarms && test.effect >= floor && (history !== undefined || !test.needsHistory),
          message: test.message,
        },
      ];
    });
    const exceeded = decided.some((test) => test.exceeded);
    const streak = exceeded ? 1 + streakBefore(column, given) : 0;
    const told = decided.find((test) => test.exceeded) ?? decided[0];
    return {
      column,
      exceeded,
      drifted: exceeded && streak >= settings.windowsInARow,
      streak,
      tests: decided.map(({ message: _said, ...test }) => test),
      message: told?.message ?? '',
    };
  });
  const least = ({ tests: of }: ColumnDecision): number => Math.min(...of.map(({ adjustedPValue }) => adjustedPValue));
  const most = ({ tests: of }: ColumnDecision): number => Math.max(...of.map(({ effect }) => effect));
  columns.sort((a, b) => Number(b.exceeded) - Number(a.exceeded) || least(a) - least(b) || most(b) - most(a) || (a.column < b.column ? -1 : 1));
  return { from, rows: report.rows, verdict: columns.some(({ drifted }) => drifted) ? 'drifted' : 'steady', columns };
}

const floorOf = (kind: Kind, { leastEffect }: DriftSettings): number =>
  kind === 'distribution' || kind === 'season' ? leastEffect.psi : kind === 'nulls' ? leastEffect.nulls : leastEffect.auc;

function testsOf(column: ColumnDrift, report: DriftReport): readonly Test[] {
  const rows = column.rows?.recent ?? report.rows;
  const referenceRows = column.rows?.training ?? report.referenceRows ?? rows;
  const { training, recent } = column.nullFraction;
  const missing = { here: recent * rows, there: training * referenceRows };
  const nulls: Test = {
    column: column.column,
    kind: 'nulls',
    effect: Math.abs(recent - training),
    // of the reference's share alone: a burst of missing values is not to make itself probable
    chance: Math.sqrt(((missing.there + 0.5) / (referenceRows + 1)) * (1 - (missing.there + 0.5) / (referenceRows + 1)) * (1 / rows + 1 / referenceRows)),
    theory: column.nulls?.pValue ?? 1,
    needsHistory: false,
    theoryThreshold: (p) => {
      const pooled = (missing.here + missing.there) / (rows + referenceRows);
      return -normalQuantile(p / 2) * Math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / referenceRows));
    },
    message: `${column.column}: ${percent(recent)} of the values are missing, ${percent(training)} in the reference`,
  };
  if (column.kind === 'text') return [textTest(column), nulls];
  const values = column.bins.slice(0, -1);
  const [n, m] = [rows - missing.here, referenceRows - missing.there];
  // a window without values has no distribution
  if (n < 1 || m < 1) return [nulls];
  const found = binEffect(
    values.map((bin) => bin.recent * rows),
    values.map((bin) => bin.training * referenceRows),
  );
  if (found === undefined) return [nulls];
  const distribution: Test = {
    column: column.column,
    kind: 'distribution',
    ...binTest(found),
    needsHistory: column.of === 'output' && column.exact === false,
    message: movedMessage(column, n / rows, m / referenceRows, found.psi),
  };
  return [distribution, nulls];
}

const binTest = ({ effect, chance, theory, expected, bins, unit }: BinEffect): Pick<Test, 'effect' | 'chance' | 'theory' | 'theoryThreshold'> => ({
  effect,
  chance,
  theory: theory(),
  theoryThreshold: (p) => (bins < 2 ? Number.POSITIVE_INFINITY : chiSquareUpperQuantile(p, bins - 1) * unit - expected),
});

/** The window's bins against those of earlier windows of its season, put together. */
function seasonTest(column: ColumnDrift, own: BinCounts, usual: readonly number[]): readonly Test[] {
  const found = binEffect(own.counts, usual);
  if (found === undefined) return [];
  const all = usual.reduce((sum, count) => sum + count, 0);
  const here = own.counts.reduce((sum, count) => sum + count, 0);
  const bins = own.labels.map((label, at) => ({ label, recent: (own.counts[at] ?? 0) / here, training: (usual[at] ?? 0) / all }));
  const { kolmogorovSmirnov: _ks, ...rest } = column;
  return [
    {
      column: column.column,
      kind: 'season',
      ...binTest(found),
      needsHistory: true,
      message: `${movedMessage({ ...rest, bins: [...bins, { label: 'missing', recent: 0, training: 0 }] }, 1, 1, found.psi)}; the reference being earlier windows of the same season`,
    },
  ];
}

/** N-grams of a text: chi-square is that of single draws, its p-value is not (`ColumnDrift.text`). */
const textTest = ({ column, psi, expectedPsi: chance, chiSquare, text }: ColumnDrift): Test => ({
  column,
  kind: 'distribution',
  effect: psi - chance,
  chance: chance * Math.sqrt(2 / Math.max(1, chiSquare?.degreesOfFreedom ?? 1)),
  theory: chiSquare?.pValue ?? 1,
  needsHistory: false,
  theoryThreshold: (p) => {
    const degrees = chiSquare?.degreesOfFreedom ?? 0;
    return degrees < 1 ? Number.POSITIVE_INFINITY : (chance / degrees) * chiSquareUpperQuantile(p, degrees) - chance;
  },
  message: `${column}: ${
    text === undefined
      ? 'other words'
      : text.terms
          .slice(0, 3)
          .map(({ term, recent, training }) => `“${term}” in ${percent(recent)} of the texts, ${percent(training)} in the reference`)
          .join('; ')
  }`,
});

const domainTest = ({ auc, pValue, low, high, columns }: DomainDrift): Test => {
  const sigma = (high - low) / 2 / 1.96;
  return {
    column: ALL_COLUMNS,
    kind: 'domain',
    effect: auc - 0.5,
    chance: sigma,
    // worse than guessing says nothing
    theory: auc > 0.5 ? pValue : 1,
    needsHistory: false,
    theoryThreshold: (p) => -normalQuantile(p / 2) * sigma,
    message: `A classifier tells recent rows from the reference with an area under the curve of ${auc.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)}), most by ${columns
      .slice(0, 3)
      .map(({ column }) => column)
      .join(', ')}`,
  };
};

const percent = (share: number): string => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** The bin that adds most to the index, as shares of the values that are there. */
function movedMessage({ column, bins, categories, kolmogorovSmirnov }: ColumnDrift, present: number, presentThere: number, psi: number): string {
  const moved = bins
    .slice(0, -1)
    .map(({ label, recent, training }) => ({ label, here: recent / present, there: training / presentThere }))
    .reduce<{ label: string; here: number; there: number } | undefined>(
      (most, bin) => (most === undefined || Math.abs(bin.here - bin.there) > Math.abs(most.here - most.there) ? bin : most),
      undefined,
    );
  const appeared = categories?.appeared;
  const said = [
    `${column}: PSI ${psi.toFixed(3)}`,
    ...(moved === undefined ? [] : [`${moved.label}: ${percent(moved.here)} of the values, ${percent(moved.there)} in the reference`]),
    ...(kolmogorovSmirnov === undefined ? [] : [`distributions up to ${percent(kolmogorovSmirnov.statistic)} apart`]),
    ...(appeared === undefined || appeared.values === 0
      ? []
      : [
          `${appeared.values} new (${appeared.named
            .slice(0, 3)
            .map(({ value }) => value)
            .join(', ')})`,
        ]),
  ];
  return said.join('; ');
}

type PastTest = PastWindow['columns'][number]['tests'][number];

/** Theory alone does not know how much quiet windows differ: what is over it is no drift yet. */
const isOverHistory = ({ exceeded, calibration }: PastTest): boolean => exceeded && calibration === 'history';

interface PastEffect {
  readonly effect: number;
  readonly chance: number;
  readonly season: number;
}

/** Earlier windows without what was a drift: of columns that drift now since when they do, and of others what was one beyond doubt. */
function quiet(past: readonly PastWindow[]): readonly PastWindow[] {
  // columns whose drift had ended by then, or had not begun
  const settled = new Set<string>();
  return past.map(({ from, columns }) => ({
    from,
    columns: columns.flatMap((one) => {
      if (!settled.has(one.column)) {
        if (one.tests.some(isOverHistory)) return [];
        settled.add(one.column);
      }
      const doubted = one.tests.filter((test) => !(isOverHistory(test) && test.pValue < BEYOND_DOUBT));
      if (doubted.length === one.tests.length) return [one];
      const { bins: _bins, ...rest } = one;
      return [{ ...rest, tests: doubted }];
    }),
  }));
}

/** Effects of earlier windows by column and test. */
function effectsOf(past: readonly PastWindow[], settings: DriftSettings): ReadonlyMap<string, readonly PastEffect[]> {
  const effects = new Map<string, PastEffect[]>();
  for (const { from, columns } of past) {
    const { season } = seasonOf(from, settings);
    for (const { column, tests } of columns) {
      for (const test of tests) {
        const key = keyOf(column, test.kind);
        const known = effects.get(key);
        const entry = { effect: test.effect, chance: test.chance ?? 0, season };
        if (known === undefined) effects.set(key, [entry]);
        else known.push(entry);
      }
    }
  }
  return effects;
}

const keyOf = (column: string, kind: Kind): string => `${kind} ${column}`;

/** What earlier windows say of a test's effect. */
interface History {
  readonly windows: number;
  readonly tail: Tail;
}

/**
 * Windows differ in what is usual for their season (the same hour), and in how much chance makes of their rows. So an effect is told in the unit
 * of its window: the mean effect of the other windows of its season, and the standard deviation by chance of so many rows. In that unit
 * the windows of all seasons and sizes are one history, in which a night of a hundred rows raises no threshold of a noon of thousands.
 */
function historyReader(from: string, past: readonly PastWindow[], settings: DriftSettings): (test: Test) => History | undefined {
  const { season: now } = seasonOf(from, settings);
  const effects = effectsOf(past, settings);
  return ({ column, kind, chance }) => {
    const known = effects.get(keyOf(column, kind)) ?? [];
    if (known.length < settings.leastHistory) return undefined;
    // effects around 0 are no unit: a quarter of what counts at all is nothing
    const nothing = Math.max(1e-9, floorOf(kind, settings) / 4);
    const inUnits = (seasonal: boolean): History | undefined => {
      const seasons = new Map<number, { sum: number; windows: number }>();
      for (const { effect, season } of known) {
        const key = seasonal ? season : 0;
        const own = seasons.get(key) ?? { sum: 0, windows: 0 };
        seasons.set(key, { sum: own.sum + effect, windows: own.windows + 1 });
      }
      const own = seasons.get(seasonal ? now : 0);
      if (own === undefined || own.windows < LEAST_SEASON) return undefined;
      // the mean of effects that chance makes negative as often as not is none of its own, however few the rows were
      const meanOf = (sum: number, windows: number): number => Math.max(nothing, sum / windows);
      const ratios = known.flatMap((one) => {
        const { sum, windows } = seasons.get(seasonal ? one.season : 0) as { sum: number; windows: number };
        return windows <= LEAST_SEASON ? [] : [Math.max(nothing, one.effect) / (meanOf(sum - one.effect, windows - 1) + one.chance)];
      });
      if (ratios.length < settings.leastHistory) return undefined;
      return { windows: ratios.length, tail: scaled(tailOf(ratios), meanOf(own.sum, own.windows) + chance) };
    };
    return (settings.season === 'none' ? undefined : inUnits(true)) ?? inUnits(false);
  };
}

interface Tail {
  readonly pValue: (effect: number) => number;
  readonly effectAt: (p: number) => number;
}

const scaled = ({ pValue, effectAt }: Tail, unit: number): Tail => ({ pValue: (effect) => pValue(effect / unit), effectAt: (p) => unit * effectAt(p) });

/** Share of the windows, and least number of them, that the upper tail is fitted to. */
const TAIL_SHARE = 0.1;
const TAIL_LEAST = 5;
/** Tail index that is assumed before any window was seen, weighing as much as one window: heavy. */
const PRIOR_INDEX = 0.5;

/**
 * How often an effect is exceeded: the share of earlier windows (with this one: (1 + k) ÷ (N + 1)) up to the greatest tenth of them, beyond it
 * the power law of I. Weissman, "Estimation of parameters and large quantiles" (1978), its index by B. Hill (1975).
 */
function tailOf(history: readonly number[]): Tail {
  const sorted = [...history].sort((a, b) => b - a);
  const windows = sorted.length;
  const k = Math.min(windows - 1, Math.max(TAIL_LEAST, Math.floor(windows * TAIL_SHARE)));
  const start = sorted[k] ?? 0;
  const logs = sorted.slice(0, k).reduce((sum, effect) => sum + Math.log(Math.max(effect, start) / start), 0);
  const index = Math.max(0.05, (logs + PRIOR_INDEX) / (k + 1));
  const share = (k + 1) / (windows + 1);
  return {
    pValue: (effect) => (effect <= start ? (1 + sorted.filter((other) => other >= effect).length) / (windows + 1) : share * (effect / start) ** (-1 / index)),
    effectAt: (p) => (p >= share ? (sorted[Math.min(windows - 1, Math.floor(p * (windows + 1)))] ?? start) : start * (share / p) ** index),
  };
}

/** Holm's and Benjamini and Hochberg's adjusted p-values, as statsmodels' `multipletests` gives them. */
export function correct(pValues: readonly number[], { correction }: Pick<DriftSettings, 'correction'>): readonly number[] {
  if (correction === 'none') return pValues;
  const order = pValues.map((p, index) => ({ p, index })).sort((a, b) => a.p - b.p);
  const result = new Array<number>(pValues.length).fill(1);
  const count = pValues.length;
  if (correction === 'holm') {
    let most = 0;
    order.forEach(({ p, index }, rank) => {
      most = Math.max(most, Math.min(1, p * (count - rank)));
      result[index] = most;
    });
  } else {
    let least = 1;
    for (let rank = count - 1; rank >= 0; rank--) {
      const { p, index } = order[rank] as { p: number; index: number };
      least = Math.min(least, (p * count) / (rank + 1));
      result[index] = least;
    }
  }
  return result;
}

function streakBefore(column: string, past: readonly PastWindow[]): number {
  const end = past.findIndex(({ columns }) => !columns.some((of) => of.column === column && of.exceeded));
  return end < 0 ? past.length : end;
}
