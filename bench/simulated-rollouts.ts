import type { Guards } from '../contracts/guards.ts';
import { addBinCounts, latencyBin, probabilityBin } from '../contracts/serving-bins.ts';
import { createRandom, type Random } from '../ml/random.ts';
import { createBlockGatherer, createGuardFamily, type GuardFamily, type ServedFigures } from '../ml/sequential/guard-family.ts';

export interface SimulatedRollout {
  readonly guards: Guards;
  readonly requestsPerSecond: number;
  /** Shares of the challenger, 0–1, one after the other. */
  readonly shares: readonly number[];
  readonly secondsAStep: number;
  /** Error rates of challenger and champion at a second. */
  readonly errorRate: (second: number) => readonly [tried: number, ruling: number];
  /** Whether latencies and outputs are simulated too; equal for both. Default true. */
  readonly all?: boolean;
}

const draws = (random: Random, n: number, chance: number): number => {
  let k = 0;
  for (let i = 0; i < n; i++) if (random.next() < chance) k += 1;
  return k;
};

/** Arrivals in a second, Poisson: their times apart are exponential. */
function arrivals(random: Random, mean: number): number {
  let n = 0;
  for (let t = -Math.log(1 - random.next()); t < mean; t -= Math.log(1 - random.next())) n += 1;
  return n;
}

function figures(random: Random, requests: number, errors: number, all: boolean): ServedFigures {
  if (!all) return { requests, errors, latency: [], outputs: [], compared: 0, equal: 0 };
  const latency: number[][] = [];
  const outputs: number[][] = [];
  for (let i = 0; i < requests; i++) {
    // a tail as servers have it: most take some milliseconds, one in fifty many times that
    latency.push([latencyBin(8 * Math.exp(0.5 * random.normal()) * (random.next() < 0.02 ? 10 : 1)), 1]);
    outputs.push([probabilityBin(random.next() ** 2), 1]);
  }
  return { requests, errors, latency: addBinCounts(latency), outputs: addBinCounts(outputs), compared: 0, equal: 0 };
}

/** One rollout, looked at every second. `atSecond` is null when it went through. */
export function simulateRollout(rollout: SimulatedRollout, seed: number): { readonly atSecond: number | null; readonly guard: string | null } {
  const random = createRandom(seed);
  const family: GuardFamily = createGuardFamily(rollout.guards);
  const gatherer = createBlockGatherer();
  for (let second = 1; second <= rollout.shares.length * rollout.secondsAStep; second++) {
    const share = rollout.shares[Math.floor((second - 1) / rollout.secondsAStep)] ?? 0;
    const total = arrivals(random, rollout.requestsPerSecond);
    const tried = draws(random, total, share);
    const [triedRate, rulingRate] = rollout.errorRate(second);
    const block = gatherer.add(
      'server',
      second,
      tried === 0 ? undefined : figures(random, tried, draws(random, tried, triedRate), rollout.all !== false),
      tried === total ? undefined : figures(random, total - tried, draws(random, total - tried, rulingRate), rollout.all !== false),
    );
    if (block === undefined) continue;
    family.add(block);
    const { breach } = family.judge();
    if (breach !== null) return { atSecond: second, guard: breach.guard };
  }
  return { atSecond: null, guard: null };
}
