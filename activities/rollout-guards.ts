import type { Guards, GuardVerdict } from '../contracts/guards.ts';
import type { ServedVersion, ServingStats } from '../contracts/routes.ts';
import { createBlockGatherer, createGuardFamily, type OutcomeBlock, outcomeGuards } from '../ml/sequential/guard-family.ts';
import type { ValueSums } from '../ml/sequential/means.ts';
import type { ServingStatsStore } from '../store/serving-stats.ts';

export interface GuardWatchInput {
  readonly endpoint: string;
  readonly champion: ServedVersion;
  readonly challenger: ServedVersion;
  readonly guards: Guards;
  /** UTC ISO, when the ROLLOUT began: the tests run through all its steps, and their level is for all of it. */
  readonly since: string;
  /** What servers noted by themselves counts from this epoch of the route on; null: not at all, as in a soak. */
  readonly epoch: number | null;
}

export interface GuardWatch {
  /** Reads what is new in Postgres, and says whether a guard broke. Calls are made one after the other. */
  look(): Promise<GuardVerdict>;
}

/** Servers send figures again for so long when the store was down; what comes later is not looked at any more. */
const LATE_MS = 60_000;

/** Values of each version that minutes are taken together for. */
const LEAST_VALUES = 2;
const NONE: ValueSums = { n: 0, sum: 0, sumSquares: 0, min: 0, max: 0 };

const sumOf = (a: ValueSums, b: ValueSums): ValueSums =>
  a.n === 0
    ? b
    : b.n === 0
      ? a
      : { n: a.n + b.n, sum: a.sum + b.sum, sumSquares: a.sumSquares + b.sumSquares, min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) };

/** Minutes in a row as one, until there are values of both versions. */
function together(minutes: readonly OutcomeBlock[]): OutcomeBlock[] {
  const blocks: OutcomeBlock[] = [];
  let open: OutcomeBlock | undefined;
  for (const minute of minutes) {
    open = { atSeconds: minute.atSeconds, tried: sumOf(open?.tried ?? NONE, minute.tried), ruling: sumOf(open?.ruling ?? NONE, minute.ruling) };
    if (Math.min(open.tried.n, open.ruling.n) < LEAST_VALUES) continue;
    blocks.push(open);
    open = undefined;
  }
  return blocks;
}

type Interval = Required<ServingStats>;

/** Watches a challenger beside its champion. Another watch with the same input, on another worker, finds the same. */
export function createGuardWatch(stats: Pick<ServingStatsStore, 'intervals' | 'outcomes' | 'breaks'>, input: GuardWatchInput): GuardWatch {
  const { endpoint, champion, challenger, guards, epoch } = input;
  const sinceMs = Math.floor(Date.parse(input.since) / 1000) * 1000;
  const family = createGuardFamily(guards);
  const gatherer = createBlockGatherer();
  const judged = outcomeGuards(guards);
  const taken = new Set<string>();
  let readFromMs = sinceMs;

  const is = (interval: { readonly model: string; readonly version: number }, of: ServedVersion): boolean =>
    interval.model === of.model && interval.version === of.version;
  const secondsAt = (at: string): number => (Date.parse(at) - sinceMs) / 1000;

  async function readFigures(): Promise<void> {
    const sent = new Map<string, Interval[]>();
    for (const interval of await stats.intervals({ endpoint, from: new Date(readFromMs).toISOString() })) {
      const key = `${interval.from} ${interval.server}`;
      if (!taken.has(key)) sent.set(key, [...(sent.get(key) ?? []), interval]);
    }
    for (const [key, intervals] of sent) {
      taken.add(key);
      const [{ server, from }] = intervals as [Interval, ...Interval[]];
      readFromMs = Math.max(readFromMs, Date.parse(from) - LATE_MS);
      const block = gatherer.add(
        server,
        secondsAt(from),
        intervals.find((i) => is(i, challenger)),
        intervals.find((i) => is(i, champion)),
      );
      if (block !== undefined) family.add(block);
    }
    for (const key of taken) if (Date.parse(key.slice(0, key.indexOf(' '))) < readFromMs) taken.delete(key);
  }

  /** Minutes of predictions of which something became known, by guard. */
  async function readOutcomes(): Promise<ReadonlyMap<string, readonly OutcomeBlock[]>> {
    const from = new Date(Math.floor(sinceMs / 60_000) * 60_000).toISOString();
    const sums = await stats.outcomes({ endpoint, metrics: [...new Set(judged.map(({ metric }) => metric))], from });
    return new Map(
      judged.map(({ name, metric }) => {
        const minutes = new Map<string, OutcomeBlock>();
        for (const sum of sums) {
          if (sum.metric !== metric) continue;
          const side = is(sum, challenger) ? 'tried' : is(sum, champion) ? 'ruling' : undefined;
          if (side === undefined) continue;
          minutes.set(sum.from, { atSeconds: Math.max(0, secondsAt(sum.from)), tried: NONE, ruling: NONE, ...minutes.get(sum.from), [side]: sum });
        }
        return [name, together([...minutes.values()])];
      }),
    );
  }

  return {
    async look() {
      await readFigures();
      const verdict = family.judge(judged.length === 0 ? undefined : await readOutcomes());
      if (verdict.breach !== null || epoch === null) return verdict;
      const [broken] = await stats.breaks({ endpoint, model: challenger.model, version: challenger.version, fromEpoch: epoch });
      if (broken === undefined) return verdict;
      return { breach: { guard: 'server', sentence: broken.reason, figures: { ...verdict.figures, ...broken.figures } }, figures: verdict.figures };
    },
  };
}
