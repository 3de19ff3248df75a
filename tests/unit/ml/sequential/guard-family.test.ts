import { describe, expect, it } from 'vitest';
import { simulateRollout } from '../../../../bench/simulated-rollouts.ts';
import { DEFAULT_GUARDS, GuardsSchema } from '../../../../contracts/guards.ts';
import {
  createBlockGatherer,
  createGuardFamily,
  type GuardBlock,
  type OutcomeBlock,
  outcomeGuards,
  type ServedFigures,
} from '../../../../ml/sequential/guard-family.ts';

const figures = (requests: number, more: Partial<ServedFigures> = {}): ServedFigures => ({
  requests,
  errors: 0,
  latency: [40, requests],
  outputs: [3, requests],
  compared: 0,
  equal: 0,
  ...more,
});
const block = (second: number, tried: Partial<ServedFigures>, ruling: Partial<ServedFigures> = {}): GuardBlock => ({
  atSeconds: second,
  tried: figures(25, tried),
  ruling: figures(75, ruling),
});
/** The breach after at most `seconds` of the same block, and when it came. */
function watch(guards: object, tried: Partial<ServedFigures>, ruling: Partial<ServedFigures> = {}, seconds = 120) {
  const family = createGuardFamily(GuardsSchema.parse(guards));
  for (let second = 1; second <= seconds; second++) {
    family.add(block(second, tried, ruling));
    const { breach } = family.judge();
    if (breach !== null) return { second, ...breach };
  }
  return undefined;
}

describe('the guards of a rollout', () => {
  it('take back at most one in twenty rollouts of identical versions: four steps, every second looked at, all default guards', () => {
    const repetitions = 120;
    let taken = 0;
    for (let seed = 0; seed < repetitions; seed++) {
      const { atSecond } = simulateRollout(
        { guards: DEFAULT_GUARDS, requestsPerSecond: 12, shares: [0.05, 0.25, 0.5, 0.75], secondsAStep: 60, errorRate: () => [0.02, 0.02] },
        seed,
      );
      if (atSecond !== null) taken += 1;
    }
    expect(taken / repetitions).toBeLessThanOrEqual(0.05);
  });

  it('see an error rate of 3 % beside 1 % within a minute in 95 of 100 rollouts, at a share of 25 % of 100 requests a second', () => {
    const repetitions = 150;
    let seen = 0;
    for (let seed = 0; seed < repetitions; seed++) {
      const { atSecond, guard } = simulateRollout(
        { guards: DEFAULT_GUARDS, requestsPerSecond: 100, shares: [0.25], secondsAStep: 58, errorRate: () => [0.03, 0.01], all: false },
        1_000 + seed,
      );
      if (atSecond !== null && guard === 'errorRate') seen += 1;
    }
    expect(seen / repetitions).toBeGreaterThanOrEqual(0.95);
  });

  it('say what failed, of how many, and of how many beside it', () => {
    const breach = watch({}, { errors: 5 });
    expect(breach).toMatchObject({ guard: 'errorRate', figures: { championErrors: 0 } });
    expect(breach?.sentence).toBe(
      `20.0 % of its ${String(25 * (breach?.second ?? 0))} requests failed, of the champion's ${String(75 * (breach?.second ?? 0))} 0.0 %`,
    );
    expect(breach?.second).toBeLessThan(4);
  });

  it('hold the error rate to a limit only where the champion keeps it better', () => {
    const limit = { errorRate: { atMost: 0.02, notWorse: false } };
    expect(watch(limit, { errors: 5 }, { errors: 0 })?.sentence).toBe('20.0 % of its requests failed; at most 2.0 % may');
    expect(watch(limit, { errors: 5 }, { errors: 15 })).toBeUndefined();
    expect(watch({ errorRate: 0.02 }, { errors: 0 }, { errors: 15 })).toBeUndefined();
  });

  it('see a slower tail, other answers, and too little agreement', () => {
    expect(watch({}, { latency: [60, 25] })).toMatchObject({
      guard: 'latency.p99',
      sentence: "its p99 latency is 15 ms, the champion's 2.2 ms; at most 2 times is allowed",
    });
    expect(watch({ outputs: { maxDistance: 0.2 } }, { outputs: [3, 12, 4, 13] })).toMatchObject({
      guard: 'outputs',
      sentence: "its answers are distributed 0.52 away from the champion's; at most 0.2 is allowed",
    });
    expect(watch({ agreement: { atLeast: 0.95 } }, { compared: 25, equal: 20 })).toMatchObject({ guard: 'agreement' });
    expect(watch({ agreement: { atLeast: 0.75 } }, { compared: 25, equal: 20 })).toBeUndefined();
  });

  it('that are turned off see nothing', () => {
    expect(watch({ errorRate: false, latency: false, outputs: false }, { errors: 25, latency: [90, 25], outputs: [9, 25] })).toBeUndefined();
  });

  it('hold labels and outcomes against the champion, in the sense in which each is better', () => {
    const guards = GuardsSchema.parse({
      quality: { metric: 'logLoss' },
      business: [
        { metric: 'revenue', notWorse: 1 },
        { metric: 'refunds', better: 'lower' },
      ],
    });
    expect(outcomeGuards(guards)).toEqual([
      { name: 'quality.logLoss', metric: 'logLoss', better: 'lower', margin: 0 },
      { name: 'business.revenue', metric: 'revenue', better: 'higher', margin: 1 },
      { name: 'business.refunds', metric: 'refunds', better: 'lower', margin: 0 },
    ]);
    const of = (n: number, mean: number) => ({ n, sum: n * mean, sumSquares: n * (mean * mean + 1), min: mean - 2, max: mean + 2 });
    const minutes = (tried: number, ruling: number): OutcomeBlock[] =>
      Array.from({ length: 60 }, (_, i) => ({ atSeconds: i * 60, tried: of(10, tried), ruling: of(30, ruling) }));
    const judge = (name: string, blocks: OutcomeBlock[]) => createGuardFamily(guards).judge(new Map([[name, blocks]])).breach;
    expect(judge('quality.logLoss', minutes(1.5, 1))).toMatchObject({
      guard: 'quality.logLoss',
      sentence: "its mean logLoss is 1.50 over 600 rows, the champion's 1.00 over 1800 (lower is better)",
    });
    expect(judge('quality.logLoss', minutes(0.5, 1))).toBeNull();
    expect(judge('business.revenue', minutes(9.2, 10))).toBeNull();
    expect(judge('business.revenue', minutes(8, 10))?.sentence).toMatch(/\(higher is better\); 1 worse is allowed$/);
  });

  it('tell what was seen also when nothing broke', () => {
    const family = createGuardFamily(DEFAULT_GUARDS);
    family.add(block(1, { errors: 1 }));
    const { breach, figures: seen } = family.judge();
    expect(breach).toBeNull();
    expect(seen).toMatchObject({ requests: 25, errors: 1, championRequests: 75, championErrors: 0, p99Ms: 2.16, championP99Ms: 2.16 });
    expect(Object.keys(seen).filter((key) => key.startsWith('p.'))).toEqual(['p.errorRate', 'p.latency.p99', 'p.outputs']);
  });
});

describe('intervals', () => {
  it('of a server are gathered until both versions had requests enough, without what was before the challenger came', () => {
    const gatherer = createBlockGatherer();
    expect(gatherer.add('a', 0, undefined, figures(1_000))).toBeUndefined();
    expect(gatherer.add('a', 1, figures(3), figures(10))).toBeUndefined();
    expect(gatherer.add('b', 1, figures(4), figures(2))).toBeUndefined();
    expect(gatherer.add('a', 2, undefined, figures(10))).toBeUndefined();
    expect(gatherer.add('a', 3, figures(1), undefined)).toMatchObject({ atSeconds: 3, tried: { requests: 4, latency: [40, 4] }, ruling: { requests: 20 } });
    expect(gatherer.add('a', 4, undefined, figures(5))).toBeUndefined();
    expect(gatherer.add('a', 5, figures(4), undefined)).toMatchObject({ tried: { requests: 4 }, ruling: { requests: 5 } });
  });
});
