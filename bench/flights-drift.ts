import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Benchmark, type Figure, summarise } from './figure.ts';
import { flightsPath } from './flights-passes.ts';
import { FAULTS, type Replay, type ReplayOptions, replayFlights } from './flights-replay.ts';

const HOUR_MS = 3_600_000;
/** Of the windows of a quiet month at most. */
const MOST_ALARMS = 1 / 20;

type Variant = Pick<ReplayOptions, 'everyMs' | 'percent' | 'to' | 'faultEvery' | 'judgeQuality'>;

const END = '2001-07-01T00:00:00.000Z';
const FULL: Readonly<Record<string, Variant>> = {
  days: { everyMs: 24 * HOUR_MS, percent: 100, to: END, faultEvery: 5 },
  hours: { everyMs: HOUR_MS, percent: 100, to: END, faultEvery: 25, judgeQuality: false },
};
const QUICK: Readonly<Record<string, Variant>> = {
  days: { everyMs: 24 * HOUR_MS, percent: 10, to: '2001-03-01T00:00:00.000Z', faultEvery: 7 },
  hours: { everyMs: HOUR_MS, percent: 100, to: '2001-02-08T00:00:00.000Z', faultEvery: 10, judgeQuality: false },
};

function* figuresOf(every: string, { windows, faults }: Replay): Generator<Omit<Figure, 'bench'>> {
  for (const { name, column, by } of FAULTS) {
    const tried = faults.filter(({ fault }) => fault === name);
    const found = tried.map(({ isFound }): number => (isFound ? 1 : 0));
    const share = found.reduce((sum, one) => sum + one, 0) / found.length;
    yield {
      ...summarise(found),
      metric: 'found_at_once',
      variant: `${every}: ${name} → ${column}, by ${by}`,
      value: share,
      unit: 'share',
      better: 'higher',
      bar: 1,
    };
  }
  for (const month of new Set(windows.map(({ from }) => from.slice(0, 7)))) {
    const of = windows.filter(({ from }) => from.startsWith(month));
    const alarms = of.map(({ verdict }): number => (verdict === 'drifted' ? 1 : 0));
    const share = alarms.reduce((sum, one) => sum + one, 0) / alarms.length;
    yield { ...summarise(alarms), metric: 'quiet_alarms', variant: `${every}: ${month}`, value: share, unit: 'share', better: 'lower', bar: MOST_ALARMS };
    const judged = of.flatMap(({ auc }) => auc ?? []);
    if (judged.length > 0) yield { ...summarise(judged), metric: 'auc', variant: `${every}: ${month}`, unit: 'area' };
  }
}

/** Faults in the flights' traffic are found in the window that they begin in, and quiet months stay quiet. */
export const benchmark: Benchmark = {
  name: 'flights-drift',
  summary: 'the flights of 2001 replayed as traffic in daily and hourly windows: faults found in their first window, alarms of quiet months',
  async run({ quick, emit }) {
    for (const [every, variant] of Object.entries(quick ? QUICK : FULL)) {
      const replay = await replayFlights({
        source: flightsPath(),
        folder: join(tmpdir(), `millrace-flights-drift-${String(process.pid)}`),
        trainFrom: '2001-01-01T00:00:00.000Z',
        from: '2001-02-01T00:00:00.000Z',
        ...variant,
      });
      for (const figure of figuresOf(every, replay)) emit({ bench: 'flights-drift', ...figure, ...(quick ? { quick: true } : {}) });
    }
  },
};
