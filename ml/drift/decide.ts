/**
 * Whether columns have drifted, from the figures of a window and the decisions of earlier ones.
 *
 * For each column two tests: of the distribution of its values, and of how many are missing; and one for all columns together where a domain
 * classifier looked. A test's p-value is the greater one of
 *   - theory: what chance makes of so many rows if both sides come from one distribution (chi-square over bins that are merged until
 *     each expects five rows; two shares; DeLong), and
 *   - history: how often earlier windows had so great an effect. Real rows of an hour are not drawn from the training distribution: they
 *     are alike, and seasons come and go. Beyond the greatest effects seen, by the power law that their upper tail follows.
 * The p-values are corrected for their number; a column is over its threshold where its corrected p-value is at most `falseAlarms` and
 * its effect at least `leastEffect`.
 *
 * Invariants:
 * 1. Pure: the same figures and earlier windows give the same decision.
 * 2. Until there are enough earlier windows an effect has to be three times `leastEffect`: how much quiet windows differ is not known yet.
 * 3. While a column is over its threshold, that threshold stays: windows of the drift are not held against one another. Later they count, or
 *    thresholds would sink with each false alarm; but for those that were drifted beyond doubt.
 */
import type { ColumnDecision, ColumnDrift, DomainDrift, DriftDecision, DriftReport, DriftSettings, DRIFT_TESTS, PastWindow } from '../../contracts/drift.ts';
import { chiSquareUpperQuantile } from './distributions.ts';
import { normalQuantile } from '../evaluation/normal.ts';
import { chiSquareOfHomogeneity, expectedPsi, populationStability } from './two-samples.ts';

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
  readonly theory: number;
  /** The least effect whose p-value by theory is at most p. */
  readonly theoryThreshold: (p: number) => number;
  readonly message: string;
}

/** Rows that a bin should expect for the chi-square approximation (W. Cochran, 1954). */
const LEAST_EXPECTED = 5;
/** The column name of all columns together. */
const ALL_COLUMNS = '*';
/** Times `leastEffect` where there is no history. */
const WITHOUT_HISTORY = 3;
/** An effect this improbable was a drift beyond doubt: later windows are not held against it. */
const BEYOND_DOUBT = 1e-6;
/** Windows of the same season from which on they are a history of their own. */
const LEAST_SEASON = 3;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/**
 * Earlier windows as `decideDrift` takes them, from their figures alone: of training rows by window (`measureDriftByWindow`), or of windows from
 * before decisions were stored. All of them are taken for quiet.
 */
export function quietWindow(from: string, report: DriftReport): PastWindow {
  const tests = report.columns.flatMap((column) => testsOf(column, report));
  return {
    from,
    columns: report.columns.map(({ column }) => ({
      column,
      exceeded: false,
      tests: tests.flatMap((test) =>
        test.column === column ? [{ kind: test.kind, effect: test.effect, pValue: test.theory, calibration: 'theory' as const, exceeded: false }] : [],
      ),
    })),
  };
}

/** What each column's figures come to, and whether the window has drifted. Columns in the order of their p-values. */
export function decideDrift({ from, report, domain, past, settings }: DriftInput): DriftDecision {
  if (report.rows < settings.leastRows) return { from, rows: report.rows, verdict: 'too few rows', columns: [] };
  const tests = [...report.columns.flatMap((column) => testsOf(column, report)), ...(domain === undefined ? [] : [domainTest(domain)])];
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
          threshold: Number.isFinite(threshold) ? threshold : null,
          pValue,
          adjustedPValue,
          calibration: history === undefined ? ('theory' as const) : ('history' as const),
          historyWindows: history?.windows ?? 0,
          exceeded: adjustedPValue <= settings.falseAlarms && test.effect >= floor,
          message: test.message,
        },
      ];
    });
    const exceeded = decided.some((test) => test.exceeded);
    const streak = exceeded ? 1 + streakBefore(column, past) : 0;
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
  kind === 'distribution' ? leastEffect.psi : kind === 'nulls' ? leastEffect.nulls : leastEffect.auc;

function testsOf(column: ColumnDrift, report: DriftReport): readonly Test[] {
  const rows = column.rows?.recent ?? report.rows;
  const referenceRows = column.rows?.training ?? report.referenceRows ?? rows;
  const { training, recent } = column.nullFraction;
  const missing = { here: recent * rows, there: training * referenceRows };
  const nulls: Test = {
    column: column.column,
    kind: 'nulls',
    effect: Math.abs(recent - training),
    theory: column.nulls?.pValue ?? 1,
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
  const [here, there] = mergeSparse(
    values.map((bin) => bin.recent * rows),
    values.map((bin) => bin.training * referenceRows),
  );
  const { psi, bins } = populationStability(here, there);
  const chance = expectedPsi(bins, n, m);
  const distribution: Test = {
    column: column.column,
    kind: 'distribution',
    effect: psi - chance,
    theory: chiSquareOfHomogeneity(here, there).pValue,
    theoryThreshold: (p) => (bins < 2 ? Number.POSITIVE_INFINITY : chiSquareUpperQuantile(p, bins - 1) * (1 / n + 1 / m) - chance),
    message: movedMessage(column, n / rows, m / referenceRows, psi),
  };
  return [distribution, nulls];
}

/** N-grams of a text: chi-square is that of single draws, its p-value is not (`ColumnDrift.text`). */
const textTest = ({ column, psi, expectedPsi: chance, chiSquare, text }: ColumnDrift): Test => ({
  column,
  kind: 'distribution',
  effect: psi - chance,
  theory: chiSquare?.pValue ?? 1,
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
    // worse than guessing says nothing
    theory: auc > 0.5 ? pValue : 1,
    theoryThreshold: (p) => -normalQuantile(p / 2) * sigma,
    message: `A classifier tells recent rows from the reference with an area under the curve of ${auc.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)}), most by ${columns
      .slice(0, 3)
      .map(({ column }) => column)
      .join(', ')}`,
  };
};

/** Merges bins that expect fewer than five rows on the smaller side with one another, so that a long tail of rare values is one bin. */
function mergeSparse(here: readonly number[], there: readonly number[]): readonly [readonly number[], readonly number[]] {
  const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);
  const [n, m] = [total(here), total(there)];
  const least = Math.min(n, m) / (n + m);
  const [a, b]: [number[], number[]] = [[], []];
  let [restHere, restThere] = [0, 0];
  here.forEach((count, index) => {
    const other = there[index] ?? 0;
    if ((count + other) * least >= LEAST_EXPECTED) {
      a.push(count);
      b.push(other);
    } else {
      restHere += count;
      restThere += other;
    }
  });
  if (restHere + restThere > 0) {
    a.push(restHere);
    b.push(restThere);
  }
  return [a, b];
}

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
  readonly season: number;
}

/** Effects of earlier windows, newest first, by column and test. */
function effectsOf(past: readonly PastWindow[], seasonOf: (from: string) => number): ReadonlyMap<string, readonly PastEffect[]> {
  const effects = new Map<string, PastEffect[]>();
  // columns whose drift had ended by then, or had not begun
  const settled = new Set<string>();
  for (const { from, columns } of past) {
    const season = seasonOf(from);
    for (const { column, tests } of columns) {
      if (!settled.has(column)) {
        if (tests.some(isOverHistory)) continue;
        settled.add(column);
      }
      for (const test of tests) {
        if (isOverHistory(test) && test.pValue < BEYOND_DOUBT) continue;
        const key = keyOf(column, test.kind);
        const known = effects.get(key);
        const entry = { effect: test.effect, season };
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
 * Windows of one season (the same hour) are few, and how great their effects are differs from season to season: held against each other is how
 * many times the mean of the other windows of its season an effect was, and the windows of all seasons are one history of that.
 */
function historyReader(from: string, past: readonly PastWindow[], settings: DriftSettings): (test: Test) => History | undefined {
  const period = settings.season === 'hourOfDay' ? DAY_MS : settings.season === 'hourOfWeek' ? 7 * DAY_MS : HOUR_MS;
  const seasonOf = (at: string): number => Math.floor((Date.parse(at) % period) / HOUR_MS);
  const now = seasonOf(from);
  const effects = effectsOf(past, seasonOf);
  return ({ column, kind }) => {
    const known = effects.get(keyOf(column, kind)) ?? [];
    if (known.length < settings.leastHistory) return undefined;
    // effects around 0 have no ratio: a quarter of what counts at all is nothing
    const nothing = Math.max(1e-9, floorOf(kind, settings) / 4);
    const seasons = new Map<number, { sum: number; windows: number }>();
    for (const { effect, season } of known) {
      const own = seasons.get(season) ?? { sum: 0, windows: 0 };
      seasons.set(season, { sum: own.sum + Math.max(nothing, effect), windows: own.windows + 1 });
    }
    const ratios = known.flatMap(({ effect, season }) => {
      const own = seasons.get(season) as { sum: number; windows: number };
      const value = Math.max(nothing, effect);
      return own.windows <= LEAST_SEASON ? [] : [value / ((own.sum - value) / (own.windows - 1))];
    });
    const own = seasons.get(now);
    if (settings.season !== 'none' && own !== undefined && own.windows >= LEAST_SEASON && ratios.length >= settings.leastHistory)
      return { windows: ratios.length, tail: scaled(tailOf(ratios, 1), own.sum / own.windows) };
    return {
      windows: known.length,
      tail: tailOf(
        known.map(({ effect }) => effect),
        nothing,
      ),
    };
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
function tailOf(history: readonly number[], least: number): Tail {
  const sorted = [...history].sort((a, b) => b - a);
  const windows = sorted.length;
  const k = Math.min(windows - 1, Math.max(TAIL_LEAST, Math.floor(windows * TAIL_SHARE)));
  const start = Math.max(sorted[k] ?? 0, least);
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
