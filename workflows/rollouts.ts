import type { GuardsOptions } from '../contracts/guards.ts';
import type { OnwardStrategyInput, RolloutStrategyInput, TestDecision } from '../contracts/rollouts.ts';
import type { StickyKey } from '../contracts/routes.ts';
import { type Duration, durationMs } from './duration.ts';

/** What each strategy with an end in service takes. */
export interface WatchedOptions {
  /** What takes the version back while both are in service. */
  readonly guards?: GuardsOptions;
  /** For so long after the end, late labels and outcomes (the guards `quality` and `business`) can still take it back. Default: not at all. */
  readonly soak?: Duration;
}

const watched = ({ guards, soak }: WatchedOptions) => ({
  ...(guards === undefined ? {} : { guards }),
  ...(soak === undefined ? {} : { soakMs: durationMs(soak) }),
});

/** The key by which requests stay with a version: the value of a raw column, or the request's header `x-millrace-key`. */
export type StickyBy = { readonly column: string } | 'header';

const stickyKey = (by: StickyBy): StickyKey => (by === 'header' ? { kind: 'header' } : { kind: 'column', column: by.column });

/** All traffic at once, when every prediction server holds the new version. */
export const replace = (options: WatchedOptions = {}): OnwardStrategyInput => ({ kind: 'replace', ...watched(options) });

/**
 * The new version is loaded and warm beside the old one, without traffic; then all requests are its, at once. The old one
 * stays loaded for `keep`, so that `millrace endpoints rollback` switches back without loading anything.
 */
export function blueGreen(
  options: WatchedOptions & {
    readonly keep: Duration;
    /** Whether a person lets the switch happen: `millrace endpoints promote`. Default false. */
    readonly hold?: boolean;
  },
): OnwardStrategyInput {
  return { kind: 'blueGreen', keepMs: durationMs(options.keep), hold: options.hold ?? false, ...watched(options) };
}

/**
 * Traffic in steps, each watched for `bake`; taken back by itself when a guard breaks. `'hold'` between the shares waits
 * for a person at the share before it: `canary({ percent: [5, 'hold', 50], bake: '1 hour' })`.
 */
export function canary(
  options: WatchedOptions & {
    /** Shares in percent, rising; 100 at the end is implied. */
    readonly percent: readonly (number | 'hold')[];
    readonly bake: Duration;
    /** Default: by request id. */
    readonly stickyBy?: StickyBy;
  },
): OnwardStrategyInput {
  return {
    kind: 'canary',
    percent: [...options.percent],
    bakeMs: durationMs(options.bake),
    ...(options.stickyBy === undefined ? {} : { stickyBy: stickyKey(options.stickyBy) }),
    ...watched(options),
  };
}

/**
 * Requests are mirrored to the new version, which answers nobody, for `for`; both are compared. Then `next`: a strategy, or
 * `'nothing'`, which ends the rollout with the champion as it was.
 */
export function shadow(options: {
  /** Share of requests that are mirrored. Default 100. */
  readonly percent?: number;
  readonly for: Duration;
  readonly next: OnwardStrategyInput | 'nothing';
  /** Whether a person lets it go on when the time is over. Default false. */
  readonly hold?: boolean;
  readonly guards?: GuardsOptions;
}): RolloutStrategyInput {
  const { guards, next } = options;
  return {
    kind: 'shadow',
    percent: options.percent ?? 100,
    forMs: durationMs(options.for),
    hold: options.hold ?? false,
    next,
    ...(guards === undefined ? {} : { guards }),
  };
}

/**
 * A test of two versions: who has a key stays with one of them, for `for`. At the end `decideBy` says who serves on: a
 * metric of labels or outcomes, or a person. Guards hold meanwhile.
 */
export function abTest(
  options: WatchedOptions & {
    /** Share of the keys that get the new version. Default 50. */
    readonly percent?: number;
    readonly stickyBy: StickyBy;
    readonly for: Duration;
    /** Default: a person. */
    readonly decideBy?:
      | 'person'
      | {
          /** Of labels: `correct`, `absoluteError`, `squaredError`, `logLoss`; of outcomes: the name that they are sent under. */
          readonly metric: string;
          readonly better?: 'higher' | 'lower';
          /** Chance of taking a version for better that is not. Default 0.05. */
          readonly alpha?: number;
          /** Who serves when neither is shown to be better. Default: the champion. */
          readonly otherwise?: Exclude<TestDecision, 'person'>['otherwise'];
        };
  },
): OnwardStrategyInput {
  return {
    kind: 'abTest',
    percent: options.percent ?? 50,
    stickyBy: stickyKey(options.stickyBy),
    forMs: durationMs(options.for),
    decideBy: options.decideBy ?? 'person',
    ...watched(options),
  };
}
