/**
 * All guards of one rollout as one family of tests.
 *
 * Invariants:
 * 1. Each guard has a part of the family's level by its weight, for the whole rollout: all steps and all looks. By the union
 *    bound identical versions are taken back in at most that share of rollouts.
 * 2. What is compared was served at the same time: a block holds requests of both, so that what changes for both (a load, an
 *    hour, a share) says nothing of either.
 * 3. It depends only on the blocks, in their order: a worker that takes over reads them again and knows the same.
 */
import type { GuardBreach, Guards, MetricGuard } from '../../contracts/guards.ts';
import { addBinCounts, type BinCounts, latencyPercentileMs } from '../../contracts/serving-bins.ts';
import { testDistance, testPercentileRatio } from './distributions.ts';
import { type MeanPair, testMeanNotWorse } from './means.ts';
import { testRateNotHigher, testShareAtMost } from './rates.ts';

/** Share of rollouts of identical versions that all guards together may take back. */
export const FAMILY_LEVEL = 0.05;
/** Part of it that the prediction servers' own breakers have. */
export const BREAKER_LEVEL = 0.005;

/** What one version was asked and answered in a block. */
export interface ServedFigures {
  readonly requests: number;
  readonly errors: number;
  readonly latency: BinCounts;
  readonly outputs: BinCounts;
  /** Mirrored rows, and those answered alike; of the challenger. */
  readonly compared: number;
  readonly equal: number;
}

export interface GuardBlock {
  /** Seconds since the rollout began. */
  readonly atSeconds: number;
  readonly tried: ServedFigures;
  readonly ruling: ServedFigures;
}

/** One minute of predictions of which something became known. */
export interface OutcomeBlock extends MeanPair {
  readonly atSeconds: number;
}

export interface GuardFamily {
  add(block: GuardBlock): void;
  /** The first broken guard, or null; with what was seen. `outcomes`: all that is known now, by guard name (`quality.correct`), in order of time. */
  judge(outcomes?: ReadonlyMap<string, readonly OutcomeBlock[]>): { readonly breach: GuardBreach | null; readonly figures: Readonly<Record<string, number>> };
}

export interface OutcomeGuard {
  /** `quality.correct`, `business.revenue`. */
  readonly name: string;
  readonly metric: string;
  readonly better: 'higher' | 'lower';
  readonly margin: number;
}

const LOWER_IS_BETTER = new Set(['absoluteError', 'squaredError', 'logLoss']);
const listed = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];

/** The guards that read labels and outcomes. */
export function outcomeGuards(guards: Guards): readonly OutcomeGuard[] {
  const of = (kind: string, guard: MetricGuard): OutcomeGuard => ({
    name: `${kind}.${guard.metric}`,
    metric: guard.metric,
    better: guard.better ?? (LOWER_IS_BETTER.has(guard.metric) ? 'lower' : 'higher'),
    margin: guard.notWorse,
  });
  return [...listed(guards.quality).map((guard) => of('quality', guard)), ...listed(guards.business).map((guard) => of('business', guard))];
}

interface Running {
  readonly name: string;
  /** Part of the level, relative to the others'. */
  readonly weight: number;
  add?(block: GuardBlock): void;
  pValue(outcomes: ReadonlyMap<string, readonly OutcomeBlock[]>): number;
  /** Why, once the test is decided; undefined: it does not count (yet). */
  sentence(outcomes: ReadonlyMap<string, readonly OutcomeBlock[]>): string | undefined;
}

/** Errors are what rollouts fail of most, and what has to be seen soonest. */
const WEIGHTS = { errorRate: 6, atMost: 1.5, latency: 1, outputs: 1, agreement: 1, outcome: 1.5 } as const;
const PERCENTILES = { p50: 0.5, p95: 0.95, p99: 0.99 } as const;

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const milliseconds = (value: number | null): string => (value === null ? 'unknown' : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`);
const round = (value: number): string => (Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(3));

/** Runs the declared guards over a rollout. `level`: what all of them together may take back of identical versions. */
export function createGuardFamily(guards: Guards, level = FAMILY_LEVEL - BREAKER_LEVEL): GuardFamily {
  const seen = { tried: total(), ruling: total() };
  const rate = (of: Total): number => (of.requests === 0 ? 0 : of.errors / of.requests);
  const running: Running[] = [];

  const errorRate = typeof guards.errorRate === 'number' ? { atMost: guards.errorRate, notWorse: true } : guards.errorRate;
  if (errorRate !== false && errorRate.notWorse) {
    // made for about the part of the level that it has beside the default guards
    const test = testRateNotHigher(level * 0.75);
    running.push({
      name: 'errorRate',
      weight: WEIGHTS.errorRate,
      add: ({ tried, ruling, atSeconds }) => {
        test.add({ triedTotal: tried.requests, triedEvents: tried.errors, rulingTotal: ruling.requests, rulingEvents: ruling.errors }, atSeconds);
      },
      pValue: () => test.pValue,
      sentence: () =>
        `${percent(rate(seen.tried))} of its ${String(seen.tried.requests)} requests failed, of the champion's ${String(seen.ruling.requests)} ${percent(rate(seen.ruling))}`,
    });
  }
  if (errorRate !== false && errorRate.atMost !== undefined) {
    const { atMost } = errorRate;
    const test = testShareAtMost(atMost);
    running.push({
      name: 'errorRate.atMost',
      weight: WEIGHTS.atMost,
      add: ({ tried, atSeconds }) => {
        test.add({ total: tried.requests, events: tried.errors }, atSeconds);
      },
      pValue: () => test.pValue,
      // what fails for both is not the challenger's doing
      sentence: () =>
        rate(seen.tried) > rate(seen.ruling) ? `${percent(rate(seen.tried))} of its requests failed; at most ${percent(atMost)} may` : undefined,
    });
  }
  if (guards.latency !== false) {
    const { ignoreBelowMs } = guards.latency;
    for (const [name, share] of Object.entries(PERCENTILES)) {
      const maxRatio = guards.latency[name as keyof typeof PERCENTILES]?.maxRatio;
      if (maxRatio === undefined) continue;
      const test = testPercentileRatio({ share, maxRatio, ignoreBelowMs });
      running.push({
        name: `latency.${name}`,
        weight: WEIGHTS.latency,
        add: ({ tried, ruling, atSeconds }) => {
          test.add({ tried: tried.latency, ruling: ruling.latency }, atSeconds);
        },
        pValue: () => test.pValue,
        sentence: () =>
          `its ${name} latency is ${milliseconds(latencyPercentileMs(seen.tried.latency, share))}, the champion's ${milliseconds(latencyPercentileMs(seen.ruling.latency, share))}; at most ${String(maxRatio)} times is allowed`,
      });
    }
  }
  if (guards.outputs !== false) {
    const { maxDistance } = guards.outputs;
    const test = testDistance(maxDistance);
    running.push({
      name: 'outputs',
      weight: WEIGHTS.outputs,
      add: ({ tried, ruling, atSeconds }) => {
        test.add({ tried: tried.outputs, ruling: ruling.outputs }, atSeconds);
      },
      pValue: () => test.pValue,
      sentence: () =>
        `its answers are distributed ${distance(seen.tried.outputs, seen.ruling.outputs).toFixed(2)} away from the champion's; at most ${String(maxDistance)} is allowed`,
    });
  }
  if (guards.agreement !== undefined) {
    const { atLeast } = guards.agreement;
    const test = testShareAtMost(1 - atLeast);
    running.push({
      name: 'agreement',
      weight: WEIGHTS.agreement,
      add: ({ tried, atSeconds }) => {
        test.add({ total: tried.compared, events: tried.compared - tried.equal }, atSeconds);
      },
      pValue: () => test.pValue,
      sentence: () =>
        `it answered ${percent(seen.tried.compared === 0 ? 0 : seen.tried.equal / seen.tried.compared)} of ${String(seen.tried.compared)} rows as the champion did; at least ${percent(atLeast)} is asked for`,
    });
  }
  for (const guard of outcomeGuards(guards)) {
    const blocksOf = (outcomes: ReadonlyMap<string, readonly OutcomeBlock[]>): readonly OutcomeBlock[] => outcomes.get(guard.name) ?? [];
    running.push({
      name: guard.name,
      weight: WEIGHTS.outcome,
      // late labels fill earlier minutes: the test is run again over what is known, and judged by where it stands
      pValue: (outcomes) => {
        const test = testMeanNotWorse(guard);
        for (const block of blocksOf(outcomes)) test.add(block, block.atSeconds);
        return Math.min(1, 1 / test.evidence);
      },
      sentence: (outcomes) => {
        const mean = (side: 'tried' | 'ruling'): string => {
          const n = blocksOf(outcomes).reduce((sum, block) => sum + block[side].n, 0);
          return `${round(blocksOf(outcomes).reduce((sum, block) => sum + block[side].sum, 0) / n)} over ${String(n)}`;
        };
        const margin = guard.margin === 0 ? '' : `; ${String(guard.margin)} worse is allowed`;
        return `its mean ${guard.metric} is ${mean('tried')} rows, the champion's ${mean('ruling')} (${guard.better} is better)${margin}`;
      },
    });
  }
  const weights = running.reduce((sum, { weight }) => sum + weight, 0);

  return {
    add(block) {
      addTo(seen.tried, block.tried);
      addTo(seen.ruling, block.ruling);
      for (const guard of running) guard.add?.(block);
    },
    judge(outcomes = new Map<string, readonly OutcomeBlock[]>()) {
      const figures: Record<string, number> = {
        requests: seen.tried.requests,
        errors: seen.tried.errors,
        championRequests: seen.ruling.requests,
        championErrors: seen.ruling.errors,
      };
      for (const [name, of] of [
        ['', seen.tried],
        ['champion', seen.ruling],
      ] as const) {
        for (const [key, share] of Object.entries(PERCENTILES)) {
          const value = latencyPercentileMs(of.latency, share);
          if (value !== null) figures[name === '' ? `${key}Ms` : `${name}${key.toUpperCase()}Ms`] = Number(value.toPrecision(3));
        }
      }
      if (seen.tried.compared > 0) Object.assign(figures, { compared: seen.tried.compared, equal: seen.tried.equal });
      let breach: GuardBreach | null = null;
      for (const guard of running) {
        const p = guard.pValue(outcomes);
        figures[`p.${guard.name}`] = Number(p.toPrecision(3));
        if (breach !== null || p > (level * guard.weight) / weights) continue;
        const sentence = guard.sentence(outcomes);
        if (sentence !== undefined) breach = { guard: guard.name, sentence, figures };
      }
      return { breach, figures };
    },
  };
}

interface Total {
  requests: number;
  errors: number;
  latency: BinCounts;
  outputs: BinCounts;
  compared: number;
  equal: number;
}
const total = (): Total => ({ requests: 0, errors: 0, latency: [], outputs: [], compared: 0, equal: 0 });

function addTo(into: Total, figures: ServedFigures): void {
  into.requests += figures.requests;
  into.errors += figures.errors;
  into.compared += figures.compared;
  into.equal += figures.equal;
  into.latency = addBinCounts([into.latency, figures.latency]);
  into.outputs = addBinCounts([into.outputs, figures.outputs]);
}

/** Total variation distance of two distributions in counts, 0–1. */
function distance(a: BinCounts, b: BinCounts): number {
  const [p, q] = [shares(a), shares(b)];
  let sum = 0;
  for (const bin of new Set([...p.keys(), ...q.keys()])) sum += Math.abs((p.get(bin) ?? 0) - (q.get(bin) ?? 0));
  return sum / 2;
}

function shares(counts: BinCounts): ReadonlyMap<number, number> {
  let sum = 0;
  for (let i = 1; i < counts.length; i += 2) sum += counts[i] as number;
  const found = new Map<number, number>();
  for (let i = 0; i < counts.length; i += 2) found.set(counts[i] as number, (counts[i + 1] as number) / sum);
  return found;
}

/** Requests of each version in a block, at least. It depends on how many were asked alone, never on what came of them. */
const LEAST_REQUESTS = 4;

/** Gathers intervals of one server into blocks that hold requests of both versions. */
export interface BlockGatherer {
  /** Figures of one server and interval; undefined: that version had none. Gives the block when it is full. */
  add(server: string, atSeconds: number, tried: ServedFigures | undefined, ruling: ServedFigures | undefined): GuardBlock | undefined;
}

export function createBlockGatherer(): BlockGatherer {
  const open = new Map<string, { tried: Total; ruling: Total }>();
  return {
    add(server, atSeconds, tried, ruling) {
      // what the champion was asked before the challenger was asked anything is of another time
      if (!open.has(server) && tried === undefined) return undefined;
      const block = open.get(server) ?? { tried: total(), ruling: total() };
      if (tried !== undefined) addTo(block.tried, tried);
      if (ruling !== undefined) addTo(block.ruling, ruling);
      if (block.tried.requests < LEAST_REQUESTS || block.ruling.requests < LEAST_REQUESTS) {
        open.set(server, block);
        return undefined;
      }
      open.set(server, { tried: total(), ruling: total() });
      return { atSeconds, ...block };
    },
  };
}
