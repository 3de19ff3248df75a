/**
 * Takes a challenger out of one server's traffic without asking anybody: with every worker dead it still happens.
 *
 * Invariants:
 * 1. Nothing is read or written here: the server counts, and is told.
 * 2. Once broken it stays so: a new rollout has a new breaker.
 * 3. It breaks for what the champion is spared: failures of both say nothing of the challenger.
 */
import { type RatePair, testRateNotHigher } from '../ml/sequential/rates.ts';

export interface ChallengerBreaker {
  /** Counts a request that one of the two answered or failed (`failed`: 5xx). True when the challenger is to get no more. */
  count(challenger: boolean, failed: boolean): boolean;
  /** Weighs what was counted since the last call; called every second. True when the challenger is to get no more. */
  look(nowMs: number): boolean;
  /** Why, in a sentence, with what was seen; undefined while all is well. */
  readonly broken: { readonly reason: string; readonly figures: Readonly<Record<string, number>> } | undefined;
}

/**
 * Share of rollouts of identical versions that one server's breaker may take back. It is small because each of several servers
 * has its own: ten of them have `BREAKER_LEVEL` together.
 */
const LEVEL_A_SERVER = 0.0005;
/** Failures of the challenger one after the other that break it at once. Of identical versions that fail one request in ten, one row in ten thousand million. */
const IN_A_ROW = 10;
/** As long as the champion answered some meanwhile, and failed no more than this share. */
const CHAMPION_FAILS_AT_MOST = 0.2;
const CHAMPION_REQUESTS = 2;
/** Requests of each version that are weighed together, at least. */
const LEAST_REQUESTS = 4;

type Counts = { -readonly [K in keyof RatePair]: RatePair[K] };
const none = (): Counts => ({ triedTotal: 0, triedEvents: 0, rulingTotal: 0, rulingEvents: 0 });
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** `startMs`: when the challenger's traffic begins. */
export function createChallengerBreaker(startMs: number): ChallengerBreaker {
  const test = testRateNotHigher(LEVEL_A_SERVER);
  const all = none();
  let recent = none();
  /** Failures of the challenger since its last answer, and what the champion was asked since the first of them. */
  const row = { failures: 0, championRequests: 0, championErrors: 0 };
  let broken: ChallengerBreaker['broken'];

  function breaks(how: string): boolean {
    broken = {
      reason: `${how}; the server took its traffic back by itself`,
      figures: { requests: all.triedTotal, errors: all.triedEvents, championRequests: all.rulingTotal, championErrors: all.rulingEvents },
    };
    return true;
  }

  return {
    count(challenger, failed) {
      const event = failed ? 1 : 0;
      if (challenger) {
        recent.triedTotal += 1;
        recent.triedEvents += event;
        all.triedTotal += 1;
        all.triedEvents += event;
        if (failed) row.failures += 1;
        else Object.assign(row, { failures: 0, championRequests: 0, championErrors: 0 });
      } else if (all.triedTotal > 0) {
        // before the challenger was asked anything, the champion's requests are of another time
        recent.rulingTotal += 1;
        recent.rulingEvents += event;
        all.rulingTotal += 1;
        all.rulingEvents += event;
        if (row.failures > 0) {
          row.championRequests += 1;
          row.championErrors += event;
        }
      }
      if (
        broken === undefined &&
        row.failures >= IN_A_ROW &&
        row.championRequests >= CHAMPION_REQUESTS &&
        row.championErrors <= row.championRequests * CHAMPION_FAILS_AT_MOST
      )
        return breaks(`${String(row.failures)} of its requests failed one after the other`);
      return broken !== undefined;
    },
    look(nowMs) {
      if (broken !== undefined) return true;
      if (recent.triedTotal < LEAST_REQUESTS || recent.rulingTotal < LEAST_REQUESTS) return false;
      test.add(recent, (nowMs - startMs) / 1000);
      recent = none();
      if (test.pValue > LEVEL_A_SERVER) return false;
      const share = (events: number, total: number): string => `${percent(events / total)} of`;
      return breaks(
        `${share(all.triedEvents, all.triedTotal)} its ${String(all.triedTotal)} requests failed, ${share(all.rulingEvents, all.rulingTotal)} the champion's ${String(all.rulingTotal)}`,
      );
    },
    get broken() {
      return broken;
    },
  };
}
