import { Context } from '@temporalio/activity';
import { LEASE_MS } from '../contracts/endpoint.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import { createGuardWatch } from './rollout-guards.ts';
import type { EndpointWatches, WatchInput, WatchResult } from './types.ts';

const LOOK_EVERY_MS = 1_000;
const RENEW_EVERY_MS = LEASE_MS / 4;

/**
 * A rollout, watched for hours by one activity: no event of the endpoint's history tells of a look.
 *
 * Invariants:
 * 1. The challenger's lease is renewed only by who has just looked at the guards, at the epoch that it was given: when
 *    the route has moved on, an attempt that was thought dead ends without having changed anything.
 * 2. A breach takes the traffic back here, with the next epoch, before the endpoint's workflow hears of it.
 * 3. Another attempt finds what the one before did: a route that a guard published is a breach again.
 */
export function createEndpointWatches(deps: ActivityDependencies): EndpointWatches {
  return {
    async watchRollout(input) {
      try {
        return await watch(deps, input);
      } catch (error) {
        throw toActivityFailure(error, Context.current().info.attempt, (original) => {
          deps.log('error', 'rollout', { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    },
  };
}

async function watch(deps: ActivityDependencies, input: WatchInput): Promise<WatchResult> {
  const { endpoint, champion, challenger, guards, since, fromEpoch } = input;
  const guardWatch = createGuardWatch(deps.store.stats, { endpoint, champion, challenger, guards, since, epoch: fromEpoch });
  const until = Date.parse(input.until);
  let renewAt = 0;
  for (;;) {
    const { breach, figures } = await guardWatch.look();
    if (breach !== null) return takeBack(deps, input, breach.sentence, breach.figures);
    if (input.epoch !== null && Date.now() >= renewAt) {
      renewAt = Date.now() + RENEW_EVERY_MS;
      if (!(await renewed(deps, input, input.epoch))) return whatHappened(deps, input);
    }
    if (Date.now() >= until) return { kind: 'passed', figures };
    Context.current().heartbeat();
    await Context.current().sleep(Math.max(1, Math.min(LOOK_EVERY_MS, until - Date.now())));
  }
}

/** False when the route is another one by now. */
async function renewed({ store }: ActivityDependencies, { endpoint }: WatchInput, epoch: number): Promise<boolean> {
  try {
    await store.endpoints.renewLease({ endpoint, epoch, leaseUntil: new Date(Date.now() + LEASE_MS).toISOString() });
    return true;
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'FENCED') return false;
    throw error;
  }
}

/** Gives the champion all traffic. Without an epoch nothing is shared any more, and the endpoint does what is to be done. */
async function takeBack(deps: ActivityDependencies, input: WatchInput, reason: string, figures: WatchResult['figures']): Promise<WatchResult> {
  const { endpoint, epoch, rollout } = input;
  if (epoch === null) return { kind: 'breach', reason, figures, epoch: null };
  const route = await deps.store.endpoints.route(endpoint);
  if (route?.epoch !== epoch) return whatHappened(deps, input);
  try {
    const next = { ...route, epoch: epoch + 1, challenger: null };
    await deps.store.endpoints.setRoute({ route: next, expectedEpoch: epoch, rolloutId: rollout, reason, by: 'guard' });
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'FENCED') return whatHappened(deps, input);
    throw error;
  }
  return { kind: 'breach', reason, figures, epoch: epoch + 1 };
}

/** Why the route is not the one that was to be watched: a guard took it back already, or somebody else published. */
async function whatHappened({ store }: ActivityDependencies, { endpoint, epoch, rollout }: WatchInput): Promise<WatchResult> {
  const [last] = await store.endpoints.productionHistory(endpoint, { limit: 1 });
  return last?.by === 'guard' && last.rolloutId === rollout && last.epoch === (epoch ?? 0) + 1
    ? { kind: 'breach', reason: last.reason ?? '', figures: {}, epoch: last.epoch }
    : { kind: 'fenced', figures: {} };
}
