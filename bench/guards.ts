import { DEFAULT_GUARDS } from '../contracts/guards.ts';
import { wilsonInterval } from '../ml/evaluation/normal.ts';
import type { Benchmark, BenchmarkOptions } from './figure.ts';
import { measureTakeBack } from './take-back.ts';
import { type SimulatedRollout, simulateRollout } from './simulated-rollouts.ts';

/** A second until its figures are sent, and one until they are looked at, at most. */
const SAMPLING_SECONDS = 2;
const WITHIN_SECONDS = 60;
const POWER = 0.95;

/** How often guards take back what is as good as the champion, and how soon they see what is not. */
export const benchmark: Benchmark = {
  name: 'guards',
  summary:
    'false rollbacks of identical versions over whole simulated rollouts, how soon 3 % of errors beside 1 % are seen at 100 requests/s, and how long taking back takes',
  run: async (options) => {
    falseRollbacks('default guards', { requestsPerSecond: 20, errorRate: () => [0.01, 0.01] }, options.quick ? 100 : 1_000, options);
    falseRollbacks(
      'errors come and go',
      { requestsPerSecond: 20, errorRate: (second) => (Math.floor(second / 60) % 2 === 0 ? [0.2, 0.2] : [0.002, 0.002]) },
      options.quick ? 100 : 1_000,
      options,
    );
    for (const share of [0.5, 0.25, 0.1, 0.05]) detection(`${String(share * 100)} %`, share, 0, options);
    detection('25 %, after a minute', 0.25, 60, options);
    detection('25 %, after 10 minutes', 0.25, 600, options);
    await measureTakeBack(options);
  },
};

function falseRollbacks(
  variant: string,
  traffic: Pick<SimulatedRollout, 'requestsPerSecond' | 'errorRate'>,
  repetitions: number,
  { quick, emit }: BenchmarkOptions,
): void {
  let taken = 0;
  for (let seed = 0; seed < repetitions; seed++) {
    const rollout: SimulatedRollout = { guards: DEFAULT_GUARDS, shares: [0.05, 0.25, 0.5, 0.75], secondsAStep: 120, ...traffic };
    if (simulateRollout(rollout, seed).atSecond !== null) taken += 1;
  }
  const { low, high } = wilsonInterval(taken, repetitions, 0.95);
  const shared = { bench: 'guards', metric: 'false_rollbacks', variant, unit: 'share', n: repetitions, better: 'lower', bar: 0.05 } as const;
  emit({ ...shared, value: taken / repetitions, min: low, max: high, ...(quick ? { quick } : {}) });
}

function detection(variant: string, share: number, fromSecond: number, { quick, emit }: BenchmarkOptions): void {
  const repetitions = quick ? 100 : 1_000;
  const seconds: number[] = [];
  for (let seed = 0; seed < repetitions; seed++) {
    // at any second of ten: what the tests do anew every so often is in step with no error rate
    const changedAt = fromSecond === 0 ? 0 : fromSecond + (seed % 10);
    const { atSecond } = simulateRollout(
      {
        guards: DEFAULT_GUARDS,
        requestsPerSecond: 100,
        shares: [share],
        secondsAStep: changedAt + 900,
        errorRate: (second) => [second > changedAt ? 0.03 : 0.01, 0.01],
        // latencies and answers are equal here, and cost most of the time
        all: false,
      },
      seed,
    );
    // one that was taken back before anything was wrong has not been seen
    seconds.push(atSecond === null || atSecond <= changedAt ? Number.POSITIVE_INFINITY : atSecond - changedAt + SAMPLING_SECONDS);
  }
  seconds.sort((a, b) => a - b);
  const at = (part: number): number => seconds[Math.min(repetitions - 1, Math.floor(part * repetitions))] ?? Number.POSITIVE_INFINITY;
  const seen = seconds.filter((s) => s <= WITHIN_SECONDS).length;
  const { low, high } = wilsonInterval(seen, repetitions, 0.95);
  const shared = { bench: 'guards', variant, n: repetitions, ...(quick ? { quick } : {}) };
  const bar = share >= 0.25 && fromSecond === 0 ? ({ better: 'higher', bar: POWER } as const) : {};
  emit({ ...shared, metric: 'seen_in_60_s', value: seen / repetitions, unit: 'share', min: low, max: high, ...bar });
  emit({ ...shared, metric: 'seen_after', value: at(0.5), unit: 's', min: at(0.05), max: at(0.95) });
}
