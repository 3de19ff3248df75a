import {
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineUpdate,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import type { EndpointActivities } from '../activities/types.ts';
import type { EndpointChange, EndpointState, RollbackRequest, RolloutRequest } from '../contracts/endpoint.ts';
import { MillraceError } from '../contracts/errors.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { RolloutOutcome } from '../contracts/stages.ts';
import { reportOf, toWorkflowFailure } from './failure.ts';

/**
 * The durable owner of one endpoint: what serves, what is tried beside it, what served before.
 *
 * Invariants:
 * 1. One rollout at a time; further ones wait in the order they came. A rollout id is handled once, also after
 *    continue-as-new (`done`).
 * 2. Every route is published with an epoch one above the last, and the store refuses any other: a lost or doubled
 *    owner cannot publish.
 * 3. A challenger's share is a lease, renewed while it is watched: with every worker dead it falls to nothing.
 * 4. However a rollout ends, its record says so and the run that waits is told.
 */
export const rolloutUpdate = defineUpdate<{ queued: number }, [RolloutRequest]>('rollout');
export const rollbackUpdate = defineUpdate<{ champion: ServedVersion | null }, [RollbackRequest]>('rollback');
export const promoteUpdate = defineUpdate<void, [EndpointChange]>('promote');
export const abortUpdate = defineUpdate<void, [EndpointChange]>('abort');
export const stateQuery = defineQuery<EndpointState>('state');

/** What is carried from one execution to the next. */
export interface EndpointCarry {
  readonly queue: readonly RolloutRequest[];
  readonly done: readonly string[];
}

const STACK_LENGTH = 10;
const DONE_LENGTH = 200;
/** Renewed every third of it. */
const LEASE_MS = 30_000;
const HOLD_TIMEOUT_MS = 90_000;

const activities = proxyActivities<EndpointActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '2 minutes',
  heartbeatTimeout: '15 seconds',
  retry: { initialInterval: '300ms', maximumInterval: '10s' },
});

const served = (v: ServedVersion): string => `${v.model} ${String(v.version)}`;

export async function endpoint(name: string, carry: EndpointCarry = { queue: [], done: [] }): Promise<void> {
  const queue: RolloutRequest[] = [...carry.queue];
  const done: string[] = [...carry.done];
  let route: Route | null = null;
  let epoch = 0;
  let stack: ServedVersion[] = [];
  /** The rollout that brought the present champion; null after a person's rollback. */
  let servingRollout: string | null = null;
  let active: { request: RolloutRequest; step: string; decision?: { kind: 'promote' | 'abort'; by: string; reason: string } } | undefined;
  const rollbacks: { request: RollbackRequest; settle: (result: { champion: ServedVersion | null } | Error) => void }[] = [];

  setHandler(stateQuery, () => ({
    endpoint: name,
    route,
    stack,
    rollout: active ? { id: active.request.rollout, version: active.request.version, step: active.step } : null,
    queued: queue.map((q) => q.rollout),
  }));
  setHandler(rolloutUpdate, (request) => {
    const known = done.includes(request.rollout) || active?.request.rollout === request.rollout || queue.some((q) => q.rollout === request.rollout);
    if (!known) queue.push(request);
    return { queued: queue.length };
  });
  const decide = (kind: 'promote' | 'abort') => ({
    handler: (change: EndpointChange) => {
      if (active) active.decision = { kind, ...change };
    },
    validator: (change: EndpointChange) => {
      if (!active) throw toWorkflowFailure(new MillraceError('CONFLICT', `No rollout is under way on ${name}: ${change.by} has nothing to ${kind}.`));
    },
  });
  const promote = decide('promote');
  setHandler(promoteUpdate, promote.handler, { validator: promote.validator });
  const abort = decide('abort');
  setHandler(abortUpdate, abort.handler, { validator: abort.validator });
  setHandler(rollbackUpdate, async (request) => {
    if (request.rollout !== undefined) {
      const waiting = queue.findIndex((q) => q.rollout === request.rollout);
      if (waiting >= 0) {
        const [dropped] = queue.splice(waiting, 1);
        if (dropped) await finish(dropped, { rollout: dropped.rollout, status: 'rolled_back', reason: request.reason });
        return { champion: route?.champion ?? null };
      }
      const heardOf = done.includes(request.rollout) || active?.request.rollout === request.rollout;
      // taken back before it was asked for: when it comes after all, it is not begun
      if (!heardOf) done.push(request.rollout);
      if (active?.request.rollout === request.rollout) active.decision = { kind: 'abort', by: request.by, reason: request.reason };
    }
    let result: { champion: ServedVersion | null } | Error | undefined;
    rollbacks.push({ request, settle: (r) => (result = r) });
    await condition(() => result !== undefined);
    if (result instanceof Error) throw toWorkflowFailure(result);
    return result ?? { champion: null };
  });

  const stored = await activities.loadEndpoint({ endpoint: name });
  ({ route, epoch, rollout: servingRollout } = stored);
  stack = [...stored.stack];
  details();

  for (;;) {
    await condition(() => queue.length > 0 || rollbacks.length > 0 || workflowInfo().continueAsNewSuggested);
    const back = rollbacks.shift();
    if (back) {
      await rollBackTo(back.request).then(back.settle, (error: unknown) => {
        back.settle(MillraceError.fromReport(reportOf(error)));
      });
      continue;
    }
    const request = queue.shift();
    if (request) {
      active = { request, step: 'begins' };
      const outcome = await rollOut(request).catch(
        (error: unknown): RolloutOutcome => ({ rollout: request.rollout, status: 'failed', reason: reportOf(error).message }),
      );
      await finish(request, outcome);
      active = undefined;
      details();
      continue;
    }
    await condition(allHandlersFinished);
    if (queue.length === 0 && rollbacks.length === 0) await continueAsNew<typeof endpoint>(name, { queue, done });
  }

  function details(): void {
    setCurrentDetails(
      [
        `**${name}**`,
        '',
        route ? `Champion: ${served(route.champion)} (epoch ${String(route.epoch)})` : 'Nothing is served.',
        ...(active ? [`Rollout of ${served(active.request.version)}: ${active.step}`] : []),
        ...(stack.length > 0 ? [`Before: ${stack.map(served).join(', ')}`] : []),
      ].join('\n\n'),
    );
  }

  async function publish(next: Omit<Route, 'epoch' | 'endpoint' | 'log'>, rollout: string | null, reason: string): Promise<Route> {
    const published: Route = { endpoint: name, epoch: epoch + 1, log: true, ...next };
    await activities.publishRoute({ route: published, rollout, reason });
    ({ epoch } = published);
    route = published;
    details();
    return published;
  }

  async function finish(request: RolloutRequest, outcome: RolloutOutcome): Promise<void> {
    done.push(request.rollout);
    done.splice(0, Math.max(0, done.length - DONE_LENGTH));
    await activities.noteRollout({ rollout: request.rollout, status: outcome.status, note: outcome.reason });
    if (request.workflowId !== null) await activities.tellRun({ workflowId: request.workflowId, outcome });
  }

  async function rollOut(request: RolloutRequest): Promise<RolloutOutcome> {
    const { version, strategy, rollout } = request;
    const before = route;
    await activities.noteRollout({ rollout, status: 'running', note: 'begins' });
    if (before === null || strategy.kind === 'replace') return switchTo(request, before);
    const steps = strategy.percent.filter((p) => p < 100);
    for (const percent of steps) {
      const verdict = await watchStep(request, before, percent);
      if (verdict.kind === 'promote') break;
      if (verdict.kind !== 'passed') {
        await publish({ champion: before.champion, challenger: null }, rollout, verdict.reason);
        return { rollout, status: verdict.kind === 'failed' ? 'failed' : 'rolled_back', reason: verdict.reason };
      }
    }
    return switchTo({ ...request, version }, before);
  }

  /** One step of a canary: the share is raised, held by every server, and watched for the bake time. */
  async function watchStep(
    request: RolloutRequest,
    before: Route,
    percent: number,
  ): Promise<{ kind: 'passed' | 'promote' | 'breach' | 'aborted' | 'failed'; reason: string }> {
    const { version, strategy, rollout } = request;
    if (strategy.kind !== 'canary' || !active) return { kind: 'failed', reason: 'not a canary' };
    const watched = active;
    watched.step = `${String(percent)} % of traffic`;
    const lease = (): string => new Date(Date.now() + LEASE_MS).toISOString();
    const share = (): Promise<Route> =>
      publish({ champion: before.champion, challenger: { version, percent, leaseUntil: lease() } }, rollout, `${String(percent)} %`);
    const published = await share();
    const held = await activities.awaitHolders({ endpoint: name, epoch: published.epoch, timeoutMs: HOLD_TIMEOUT_MS });
    if (held.holding < held.live || held.live === 0) return { kind: 'failed', reason: heldProblem(held) };
    const since = new Date(Date.now()).toISOString();
    const bakeUntil = Date.now() + strategy.bakeMs;
    for (;;) {
      const waitMs = Math.max(0, Math.min(bakeUntil - Date.now(), LEASE_MS / 3, 2_000));
      if (waitMs > 0) await condition(() => watched.decision !== undefined, waitMs);
      const { decision } = watched;
      if (decision?.kind === 'promote') return { kind: 'promote', reason: decision.reason };
      if (decision) return { kind: 'aborted', reason: `${decision.by}: ${decision.reason}` };
      const guard = await activities.checkGuard({ endpoint: name, champion: before.champion, challenger: version, since, strategy });
      if (guard.breach !== null) {
        await activities.noteRollout({ rollout, status: 'running', note: `guard: ${guard.breach}`, figures: guard.figures });
        return { kind: 'breach', reason: guard.breach };
      }
      if (Date.now() >= bakeUntil) {
        await activities.noteRollout({ rollout, status: 'running', note: `${String(percent)} % passed`, figures: guard.figures });
        return { kind: 'passed', reason: '' };
      }
      const leaseUntil = route?.challenger ? Date.parse(route.challenger.leaseUntil) : 0;
      if (leaseUntil - Date.now() < (LEASE_MS * 2) / 3) await share();
    }
  }

  async function switchTo(request: RolloutRequest, before: Route | null): Promise<RolloutOutcome> {
    const { rollout, version } = request;
    if (active) active.step = 'all traffic';
    const published = await publish({ champion: version, challenger: null }, rollout, request.reason);
    const held = await activities.awaitHolders({ endpoint: name, epoch: published.epoch, timeoutMs: HOLD_TIMEOUT_MS });
    const aborted = active?.decision?.kind === 'abort' ? active.decision : undefined;
    if (held.holding < held.live || held.live === 0 || aborted) {
      const reason = aborted ? `${aborted.by}: ${aborted.reason}` : heldProblem(held);
      if (before) await publish({ champion: before.champion, challenger: null }, rollout, reason);
      else await remove(reason);
      return { rollout, status: aborted ? 'rolled_back' : 'failed', reason };
    }
    servingRollout = rollout;
    if (before) stack = [...stack, before.champion].slice(-STACK_LENGTH);
    return { rollout, status: 'completed', reason: `${served(version)} answers all requests${before ? `, ${served(before.champion)} before` : ''}` };
  }

  async function remove(reason: string): Promise<void> {
    await activities.removeRoute({ endpoint: name, epoch: epoch + 1, reason });
    epoch += 1;
    route = null;
    servingRollout = null;
    details();
  }

  /** Undoes one rollout (when it is what serves), or goes back to an earlier version. */
  async function rollBackTo(request: RollbackRequest): Promise<{ champion: ServedVersion | null }> {
    if (request.rollout !== undefined && servingRollout !== request.rollout) return { champion: route?.champion ?? null };
    const target = request.to === undefined ? stack.at(-1) : stack.findLast((v) => v.version === request.to);
    if (!target) {
      if (request.rollout !== undefined) {
        await remove(request.reason);
        return { champion: null };
      }
      throw new MillraceError(
        'NOT_FOUND',
        request.to === undefined ? `${name} has no earlier version.` : `${name} has not served version ${String(request.to)} lately.`,
        {
          fix: `Earlier versions: ${stack.map((v) => String(v.version)).join(', ') || 'none'}.`,
        },
      );
    }
    const published = await publish({ champion: target, challenger: null }, request.rollout ?? null, `${request.by}: ${request.reason}`);
    stack = stack.slice(0, stack.lastIndexOf(target));
    servingRollout = null;
    await activities.awaitHolders({ endpoint: name, epoch: published.epoch, timeoutMs: HOLD_TIMEOUT_MS });
    return { champion: target };
  }
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, endpoint);

function heldProblem(held: { readonly holding: number; readonly live: number; readonly problems: readonly string[] }): string {
  if (held.live === 0) return 'No prediction server is running.';
  return `${String(held.live - held.holding)} of ${String(held.live)} prediction servers did not take it: ${held.problems.join('; ') || 'no answer in time'}`;
}
