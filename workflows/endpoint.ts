import {
  ActivityCancellationType,
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import type { EndpointActivities, EndpointWatches, WatchResult } from '../activities/types.ts';
import { type EndpointChange, type EndpointState, LEASE_MS, type Promoted, type RollbackRequest, type RolloutRequest } from '../contracts/endpoint.ts';
import { MillraceError } from '../contracts/errors.ts';
import { SERVICE_QUEUE, WATCH_QUEUE } from '../contracts/queues.ts';
import type { Guards } from '../contracts/guards.ts';
import type { RolloutStrategy } from '../contracts/rollouts.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { RolloutOutcome } from '../contracts/stages.ts';
import { createAuthorize, type Sender } from './authorize.ts';
import { reportOf, toWorkflowFailure } from './failure.ts';
import { type RolloutPhase, rolloutPlan } from './rollout-plan.ts';

/**
 * The durable owner of one endpoint: what serves, what is tried beside it, what served before.
 *
 * Invariants:
 * 1. One rollout at a time; further ones wait in the order they came, or are refused where they asked for that. A rollout
 *    id is handled once, also after continue-as-new (`done`).
 * 2. Every route is published with an epoch one above the last, and the store refuses any other: a lost or doubled
 *    owner cannot publish. Who finds that it was overtaken reads what stands before it goes on.
 * 3. A challenger's share is a lease, renewed by the activity that watches it: with every worker dead it falls to nothing.
 * 4. However a rollout ends, its record says so and the run that waits is told.
 * 5. What has to be remembered of a rollout under way is in `ActiveRollout`: a new execution goes on at the same phase.
 * 6. A soak and a version that is kept loaded end with the next rollout that brings a champion; a soak with its beginning.
 */
export const rolloutUpdate = defineUpdate<{ queued: number }, [RolloutRequest]>('rollout');
export const rollbackUpdate = defineUpdate<{ champion: ServedVersion | null }, [RollbackRequest]>('rollback');
export const promoteUpdate = defineUpdate<Promoted, [EndpointChange]>('promote');
export const abortUpdate = defineUpdate<void, [EndpointChange]>('abort');
export const stateQuery = defineQuery<EndpointState>('state');
/** Begins a new history, as the endpoint does by itself when its own has grown long; whatever is under way goes on in it. */
export const renewSignal = defineSignal('renew');

/** A rollout under way. */
interface ActiveRollout {
  readonly request: RolloutRequest;
  /** Who served when it began. */
  readonly before: ServedVersion | null;
  /** Index into the plan. */
  readonly phase: number;
  /** The epoch under which the phase's route was published; null before that. */
  readonly epoch: number | null;
  /** When its first share began (UTC ISO), and under which epoch: the guards' tests run through all steps. */
  readonly since: { readonly at: string; readonly epoch: number } | null;
  /** UTC ISO, the end of the phase; null before it is held everywhere, and where a person ends it. */
  readonly until: string | null;
  /** UTC ISO, since when it waits for a person. */
  readonly waitingSince: string | null;
}

interface Soak {
  readonly request: RolloutRequest;
  readonly before: ServedVersion;
  readonly since: string;
  readonly until: string;
}

interface Soaking {
  readonly of: Soak;
  readonly end: () => void;
  result: WatchResult | null;
}

/** What is carried from one execution to the next. */
export interface EndpointCarry {
  readonly queue: readonly RolloutRequest[];
  readonly done: readonly string[];
  readonly active?: ActiveRollout;
  readonly soak?: Soak;
  readonly kept?: { readonly version: ServedVersion; readonly until: string };
}

interface Decision extends EndpointChange {
  readonly kind: 'promote' | 'abort';
}

/** How a phase ended. `renew`: it goes on in a new execution. */
type Verdict = { readonly kind: 'passed' } | { readonly kind: 'renew' } | { readonly kind: 'promoted'; readonly by: string; readonly reason: string } | Stopped;

interface Stopped {
  readonly kind: 'stopped';
  readonly status: 'rolled_back' | 'failed';
  readonly by: string;
  readonly reason: string;
  /** Whether the champion has all traffic again already. */
  readonly published: boolean;
}

const STACK_LENGTH = 10;
const DONE_LENGTH = 200;
const HOLD_TIMEOUT_MS = 90_000;
/** A watch that lasts longer is done in turns of this length, each a few events. */
const WATCH_TURN_MS = 7 * 24 * 3_600_000;
/** Longest wait of one timer. */
const LONGEST_WAIT_MS = 30 * 24 * 3_600_000;

const activities = proxyActivities<EndpointActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '2 minutes',
  heartbeatTimeout: '15 seconds',
  retry: { initialInterval: '300ms', maximumInterval: '10s' },
});
const watches = proxyActivities<EndpointWatches>({
  taskQueue: WATCH_QUEUE,
  startToCloseTimeout: WATCH_TURN_MS + 600_000,
  // a worker that dies is noticed before the lease has ended
  heartbeatTimeout: '5 seconds',
  retry: { initialInterval: '300ms', maximumInterval: '2s' },
  // fenced by its epoch: nobody has to wait for its end
  cancellationType: ActivityCancellationType.TRY_CANCEL,
});

/** Mirrored requests have the guards of their own time, what follows has those of the strategy that it is. */
function guardsOf(strategy: RolloutStrategy, mode: 'share' | 'shadow'): Guards {
  return strategy.kind === 'shadow' && mode === 'share' && strategy.next !== 'nothing' ? strategy.next.guards : strategy.guards;
}

function soakMsOf(strategy: RolloutStrategy): number {
  if (strategy.kind !== 'shadow') return strategy.soakMs;
  return strategy.next === 'nothing' ? 0 : strategy.next.soakMs;
}

const stopped = (status: Stopped['status'], by: string, reason: string, published = false): Stopped => ({ kind: 'stopped', status, by, reason, published });
const served = (v: ServedVersion): string => `${v.model} ${String(v.version)}`;
const isSame = (a: ServedVersion, b: ServedVersion): boolean => a.model === b.model && a.version === b.version;
const nowIso = (): string => new Date(Date.now()).toISOString();
const isoIn = (ms: number): string => new Date(Date.now() + ms).toISOString();

export async function endpoint(name: string, carry: EndpointCarry = { queue: [], done: [] }): Promise<void> {
  const queue: RolloutRequest[] = [...carry.queue];
  const done: string[] = [...carry.done];
  // widened: these change while others wait
  let route = null as Route | null;
  let epoch = 0;
  let stack: ServedVersion[] = [];
  /** The rollout that brought the present champion; null after a person's rollback. */
  let servingRollout: string | null = null;
  let active: ActiveRollout | null = carry.active ?? null;
  let decision = null as Decision | null;
  let kept: NonNullable<EndpointCarry['kept']> | null = carry.kept ?? null;
  let soak = null as Soaking | null;
  let renewAsked = false;
  /** Whether the store was asked already. */
  let loaded = false;
  const rollbacks: { request: RollbackRequest; settle: (result: { champion: ServedVersion | null } | Error) => void }[] = [];

  const isBusy = (): boolean => active !== null || queue.length > 0;
  const isKnown = (rollout: string): boolean => done.includes(rollout) || active?.request.rollout === rollout || queue.some((q) => q.rollout === rollout);
  const wantsNewHistory = (): boolean => renewAsked || workflowInfo().continueAsNewSuggested;

  /** The rollout under way. One of whose end its run is being told is over: whoever heard of it may ask at once. */
  function shown(): EndpointState['rollout'] {
    if (active === null || done.includes(active.request.rollout)) return null;
    return { id: active.request.rollout, version: active.request.version, step: stepOf(active), waitingSince: active.waitingSince, until: active.until };
  }
  setHandler(stateQuery, () => ({
    endpoint: name,
    route,
    stack,
    rollout: shown(),
    queued: queue.map((q) => q.rollout),
    soak: soak && { rollout: soak.of.request.rollout, version: soak.of.request.version, before: soak.of.before, until: soak.of.until },
    kept,
  }));
  const authorize = createAuthorize();
  setHandler(renewSignal, () => {
    renewAsked = true;
  });
  setHandler(
    rolloutUpdate,
    async ({ voucher, ...request }) => {
      await authorize('rollout', name, { ...request, voucher });
      requireFree(request);
      if (!isKnown(request.rollout)) queue.push(request);
      return { queued: queue.length };
    },
    { validator: requireFree },
  );
  function requireFree(request: RolloutRequest): void {
    if (request.whenBusy === 'refuse' && isBusy() && !isKnown(request.rollout))
      throw toWorkflowFailure(
        new MillraceError(
          'CONFLICT',
          `Another rollout is under way on ${name}${active ? ` (${served(active.request.version)})` : ''}, and this one was not to wait.`,
          {
            fix: `Wait for its end (\`millrace endpoints show ${name}\`), end it with \`millrace endpoints promote\` or \`abort\`, or deploy with whenBusy: 'queue'.`,
          },
        ),
      );
  }
  const requireActive = (kind: Decision['kind']) => (change: EndpointChange) => {
    if (!active) throw toWorkflowFailure(new MillraceError('CONFLICT', `No rollout is under way on ${name}: ${change.by} has nothing to ${kind}.`));
  };
  setHandler(
    promoteUpdate,
    async ({ voucher, ...sent }) => {
      const change = { ...sent, by: (await authorize('promote', name, { ...sent, voucher })).who };
      requireActive('promote')(change);
      const resumes = active?.waitingSince != null && change.all !== true;
      decision = { kind: 'promote', ...change, all: !resumes };
      return { did: resumes ? 'resumed' : 'promoted' };
    },
    { validator: requireActive('promote') },
  );
  setHandler(
    abortUpdate,
    async ({ voucher, ...sent }) => {
      const change = { ...sent, by: (await authorize('abort', name, { ...sent, voucher })).who };
      requireActive('abort')(change);
      decision = { kind: 'abort', ...change };
    },
    { validator: requireActive('abort') },
  );
  setHandler(rollbackUpdate, async ({ voucher, revokes, ...sent }) => {
    const sender = await authorize(revokes === undefined ? 'rollback' : 'revoke', name, { ...sent, ...(revokes === undefined ? {} : { revokes }), voucher });
    const request = { ...sent, by: sender.who };
    await condition(() => loaded);
    if (revokes !== undefined) return { champion: await revoke(revokes, request.reason, sender) };
    const { by, reason, rollout } = request;
    if (rollout !== undefined) {
      const waiting = queue.findIndex((q) => q.rollout === rollout);
      if (waiting >= 0) {
        const [dropped] = queue.splice(waiting, 1);
        if (dropped) await finish(dropped, { rollout: dropped.rollout, status: 'rolled_back', reason });
        return { champion: route?.champion ?? null };
      }
      // taken back before it was asked for: when it comes after all, it is not begun
      if (!isKnown(rollout)) done.push(rollout);
      // nothing of it is served: nobody has to wait for what another rollout does
      if (active?.request.rollout !== rollout && servingRollout !== rollout) return { champion: route?.champion ?? null };
    }
    const under = active;
    if (under) {
      // whose champion is taken out of service, has nothing to be tried beside
      decision = { kind: 'abort', by, reason };
      // a person who wants the last change undone means the one that is under way
      if (rollout === undefined && request.to === undefined && under.before !== null) {
        await condition(() => active !== under);
        return { champion: route?.champion ?? null };
      }
    }
    return rolledBack(request);
  });
  /** Takes back an approval while what it let through is watched, and goes back to the version before. */
  async function revoke({ runId, gate }: NonNullable<RollbackRequest['revokes']>, reason: string, sender: Sender): Promise<ServedVersion | null> {
    const watched = soak?.of.request;
    await activities
      .revokeApproval({
        runId,
        gate,
        reason,
        who: sender.who,
        ...(sender.roles === undefined ? {} : { roles: sender.roles }),
        ...(watched === undefined ? {} : { rollout: watched.rollout }),
      })
      .catch((error: unknown) => {
        throw toWorkflowFailure(MillraceError.fromReport(reportOf(error)));
      });
    const why = `the approval ${gate} was revoked: ${reason}`;
    const { champion } = await rolledBack({ by: sender.who, reason: why });
    if (watched) await finish({ ...watched, workflowId: null }, { rollout: watched.rollout, status: 'rolled_back', reason: `after its end: ${why}` });
    return champion;
  }
  async function rolledBack(request: RollbackRequest): Promise<{ champion: ServedVersion | null }> {
    let result: { champion: ServedVersion | null } | Error | undefined;
    rollbacks.push({ request, settle: (r) => (result = r) });
    await condition(() => result !== undefined);
    if (result instanceof Error) throw toWorkflowFailure(result);
    return result ?? { champion: null };
  }

  await reload();
  loaded = true;
  if (carry.soak) startSoak(carry.soak);

  for (;;) {
    if (active === null) {
      const keptMs = kept ? Math.max(1, Math.min(Date.parse(kept.until) - Date.now(), LONGEST_WAIT_MS)) : LONGEST_WAIT_MS;
      const isDue = (): boolean => kept !== null && Date.now() >= Date.parse(kept.until);
      await condition(() => queue.length > 0 || rollbacks.length > 0 || soakEnded() || wantsNewHistory() || isDue(), keptMs);
      const back = rollbacks.shift();
      if (back) {
        await rollBackTo(back.request).then(back.settle, (error: unknown) => {
          back.settle(MillraceError.fromReport(reportOf(error)));
        });
        continue;
      }
      if (soakEnded()) {
        await settleSoak();
        continue;
      }
      if (isDue()) {
        kept = null;
        if (route?.standby) await publish({ champion: route.champion, challenger: null }, servingRollout, 'the time to switch back is over', 'endpoint');
        continue;
      }
    }
    const resumed = active;
    const request = resumed?.request ?? queue.shift();
    if (request) {
      if (!resumed) {
        endSoak();
        active = { request, before: route?.champion ?? null, phase: 0, epoch: null, since: null, until: null, waitingSince: null };
        await note(active, 'begins');
      }
      const outcome = await rollOut(request).catch(async (error: unknown): Promise<RolloutOutcome> => {
        await reload();
        return { rollout: request.rollout, status: 'failed', reason: reportOf(error).message };
      });
      if (outcome) {
        await finish(request, outcome);
        active = null;
        decision = null;
        details();
        continue;
      }
    }
    await condition(allHandlersFinished);
    if ((active !== null || queue.length === 0) && rollbacks.length === 0 && decision === null && wantsNewHistory()) {
      const soaking = soak?.of;
      endSoak();
      await continueAsNew<typeof endpoint>(name, {
        queue,
        done,
        ...(active ? { active } : {}),
        ...(soaking ? { soak: soaking } : {}),
        ...(kept ? { kept } : {}),
      });
    }
  }

  function details(): void {
    setCurrentDetails(
      [
        `**${name}**`,
        '',
        route ? `Champion: ${served(route.champion)} (epoch ${String(route.epoch)})` : 'Nothing is served.',
        ...(active ? [`Rollout of ${served(active.request.version)}: ${stepOf(active)}${active.waitingSince === null ? '' : ', waits for a person'}`] : []),
        ...(soak ? [`${served(soak.of.request.version)} can be taken back by late labels until ${soak.of.until}`] : []),
        ...(kept ? [`${served(kept.version)} stays loaded until ${kept.until}`] : []),
        ...(stack.length > 0 ? [`Before: ${stack.map(served).join(', ')}`] : []),
      ].join('\n\n'),
    );
  }

  /** What the store says: at the beginning, and after somebody else published. */
  async function reload(): Promise<{ readonly lastBy: string | null; readonly lastReason: string | null }> {
    const stored = await activities.loadEndpoint({ endpoint: name });
    ({ route, epoch, rollout: servingRollout } = stored);
    stack = [...stored.stack];
    details();
    return stored;
  }

  function update(change: Partial<ActiveRollout>): void {
    if (active) active = { ...active, ...change };
    details();
  }

  async function publish(next: Pick<Route, 'champion' | 'challenger' | 'standby'>, rollout: string | null, reason: string, by: string): Promise<Route> {
    const published: Route = { endpoint: name, epoch: epoch + 1, log: true, ...next };
    await activities.publishRoute({ route: published, rollout, reason, by });
    ({ epoch } = published);
    route = published;
    details();
    return published;
  }

  function note({ request }: ActiveRollout, text: string, more: { figures?: Readonly<Record<string, number>>; waits?: boolean } = {}): Promise<void> {
    return activities.noteRollout({
      rollout: request.rollout,
      status: 'running',
      note: text,
      at: nowIso(),
      ...(more.figures ? { figures: more.figures } : {}),
      ...(more.waits ? { tell: { endpoint: name, kind: 'waits' } } : {}),
    });
  }

  async function finish(request: RolloutRequest, outcome: RolloutOutcome, tell = false): Promise<void> {
    done.push(request.rollout);
    done.splice(0, Math.max(0, done.length - DONE_LENGTH));
    await activities.noteRollout({
      rollout: request.rollout,
      status: outcome.status,
      note: outcome.reason,
      at: nowIso(),
      ...(tell ? { tell: { endpoint: name, kind: 'taken back' } } : {}),
    });
    if (request.workflowId !== null) await activities.tellRun({ workflowId: request.workflowId, outcome });
  }

  function planOf({ request, before }: ActiveRollout): readonly RolloutPhase[] {
    return rolloutPlan(request.strategy, before !== null);
  }

  function stepOf(of: ActiveRollout): string {
    const phase = planOf(of)[of.phase];
    if (phase?.kind === 'watch')
      return phase.mode === 'shadow' ? `${String(phase.percent)} % of requests are mirrored` : `${String(phase.percent)} % of traffic`;
    if (phase?.kind === 'load') return 'loaded without traffic';
    return phase?.kind === 'judge' ? 'is judged' : 'all traffic';
  }

  /** From the phase where it stands to its end; null when it goes on in a new execution. */
  async function rollOut(request: RolloutRequest): Promise<RolloutOutcome | null> {
    const { rollout } = request;
    for (;;) {
      const now: ActiveRollout | null = active;
      if (now === null) throw new MillraceError('INTERNAL', 'No rollout is under way.');
      const plan = planOf(now);
      const phase = plan[now.phase];
      const [last] = plan.slice(-1);
      if (phase === undefined) throw new MillraceError('INTERNAL', 'The rollout has no such phase.');
      if (phase.kind === 'switch') return switchTo(request, now.before, phase.keepMs, request.reason, request.reason);
      if (now.before === null || route === null) throw new MillraceError('INTERNAL', 'A rollout in steps needs a champion.');
      if (phase.kind === 'end') {
        await publish({ champion: now.before, challenger: null }, rollout, 'the time of mirroring is over', request.reason);
        return { rollout, status: 'completed', reason: `${served(request.version)} was mirrored; ${served(now.before)} goes on` };
      }
      if (phase.kind === 'judge') {
        const judged = await judge(now, now.before, phase);
        if (judged === 'champion') {
          const reason = 'the test kept the champion';
          await publish({ champion: now.before, challenger: null }, rollout, reason, 'test');
          return { rollout, status: 'rolled_back', reason };
        }
        // who is to decide by hand has a phase of its own behind the judgement
        update({ phase: now.phase + (judged === 'person' ? 1 : 2) });
        continue;
      }
      const verdict = phase.kind === 'load' ? await runLoad(now, now.before, phase) : await runWatch(now, now.before, phase);
      if (verdict.kind === 'renew') return null;
      if (verdict.kind === 'promoted')
        return switchTo(request, now.before, last?.kind === 'switch' ? last.keepMs : 0, `${verdict.by}: ${verdict.reason}`, verdict.by);
      if (verdict.kind === 'stopped') {
        const { status, reason, by } = verdict;
        if (!verdict.published) await publish({ champion: now.before, challenger: null }, rollout, reason, by);
        return { rollout, status, reason };
      }
      // the same share goes on under the same epoch
      const next = plan[now.phase + 1];
      const goesOn = phase.kind === 'watch' && next?.kind === 'watch' && next.mode === phase.mode && next.percent === phase.percent;
      const judges = next?.kind === 'judge';
      update({ phase: now.phase + 1, epoch: goesOn || judges ? (active as ActiveRollout).epoch : null, until: null, waitingSince: null });
    }
  }

  /** Whether every server that lives holds the epoch; else why the rollout cannot go on. */
  async function heldBy(published: number): Promise<string | null> {
    const held = await activities.awaitHolders({ endpoint: name, epoch: published, timeoutMs: HOLD_TIMEOUT_MS });
    return held.holding < held.live || held.live === 0 ? heldProblem(held) : null;
  }

  /** What a person decided meanwhile; null when nothing. A hold that goes on has passed. */
  function decided(): Verdict | null {
    const now = decision;
    if (now === null) return null;
    if (now.kind === 'abort') return stopped('rolled_back', now.by, `${now.by}: ${now.reason}`);
    if (now.all === true) return { kind: 'promoted', by: now.by, reason: now.reason };
    decision = null;
    return { kind: 'passed' };
  }

  async function runLoad(of: ActiveRollout, before: ServedVersion, phase: Extract<RolloutPhase, { kind: 'load' }>): Promise<Verdict> {
    const { request } = of;
    if (of.epoch === null || of.epoch !== epoch) {
      const published = await publish(
        { champion: before, challenger: null, standby: [request.version] },
        request.rollout,
        'loaded without traffic',
        request.reason,
      );
      update({ epoch: published.epoch });
      const problem = await heldBy(published.epoch);
      if (problem !== null) return stopped('failed', 'endpoint', problem);
      await note(of, 'loaded everywhere, without traffic');
    }
    if (!phase.hold) return decided() ?? { kind: 'passed' };
    await hold(of);
    await condition(() => decision !== null || wantsNewHistory());
    return decided() ?? { kind: 'renew' };
  }

  /** People are told once that the rollout waits for them. */
  async function hold(of: ActiveRollout): Promise<void> {
    if (of.waitingSince !== null) return;
    update({ waitingSince: nowIso() });
    await note(of, `waits at: ${stepOf(of)}`, { waits: true });
  }

  /** A share, held by every server, and watched until its time is over or somebody decides. */
  async function runWatch(of: ActiveRollout, before: ServedVersion, phase: Extract<RolloutPhase, { kind: 'watch' }>): Promise<Verdict> {
    const { request } = of;
    const { version, strategy, rollout } = request;
    const { mode, percent, stickyBy, forMs } = phase;
    let shared = of.epoch;
    if (shared === null || shared !== epoch) {
      const challenger = {
        version,
        percent,
        leaseUntil: isoIn(LEASE_MS),
        ...(mode === 'shadow' ? { mode } : {}),
        ...(stickyBy ? { stickyBy } : {}),
      };
      const published = await publish({ champion: before, challenger }, rollout, stepOf(of), request.reason);
      shared = published.epoch;
      update({ epoch: shared });
      const problem = await heldBy(shared);
      if (problem !== null) return stopped('failed', 'endpoint', problem);
    }
    const since = of.since ?? { at: nowIso(), epoch: shared };
    const until = forMs === null ? null : (of.until ?? isoIn(forMs));
    update({ since, until });
    if (forMs === null) await hold(of);
    for (;;) {
      const early = decided();
      if (early) return early;
      const turnEnds = isoIn(WATCH_TURN_MS);
      const ends = until !== null && until < turnEnds ? until : turnEnds;
      const result = await watched(
        {
          endpoint: name,
          rollout,
          epoch: shared,
          fromEpoch: since.epoch,
          champion: before,
          challenger: version,
          guards: guardsOf(strategy, mode),
          since: since.at,
          until: ends,
        },
        () => decision !== null || wantsNewHistory(),
      );
      if (result === null) return decided() ?? { kind: 'renew' };
      if (result.kind === 'fenced') {
        await reload();
        return stopped('failed', 'endpoint', 'somebody else changed the route', true);
      }
      if (result.kind === 'breach') {
        await note(of, `guard: ${result.reason}`, { figures: result.figures });
        await reload();
        return stopped('rolled_back', 'guard', result.reason, true);
      }
      if (until !== null && Date.parse(until) <= Date.now()) {
        await note(of, `${stepOf(of)}: passed`, { figures: result.figures });
        return { kind: 'passed' };
      }
    }
  }

  /** One turn of watching; null when it was left because of `leave`. The attempt that is left is fenced, and not waited for. */
  async function watched(input: Parameters<EndpointWatches['watchRollout']>[0], leave: () => boolean): Promise<WatchResult | null> {
    const scope = new CancellationScope();
    const ended: { result?: WatchResult; problem?: unknown } = {};
    void scope
      .run(() => watches.watchRollout(input))
      .then(
        (result) => (ended.result = result),
        (problem: unknown) => (ended.problem = problem),
      );
    await condition(() => 'result' in ended || 'problem' in ended || leave());
    if ('problem' in ended) throw ended.problem as Error;
    if (!ended.result) scope.cancel();
    return ended.result ?? null;
  }

  async function judge(
    of: ActiveRollout,
    champion: ServedVersion,
    { decideBy }: Extract<RolloutPhase, { kind: 'judge' }>,
  ): Promise<'champion' | 'challenger' | 'person'> {
    const { metric, better, alpha, otherwise } = decideBy;
    const { winner, sentence, figures } = await activities.judgeTest({
      endpoint: name,
      champion,
      challenger: of.request.version,
      since: of.since?.at ?? nowIso(),
      metric,
      ...(better === undefined ? {} : { better }),
      alpha,
    });
    await note(of, sentence, { figures });
    return winner ?? otherwise;
  }

  async function switchTo(request: RolloutRequest, before: ServedVersion | null, keepMs: number, reason: string, by: string): Promise<RolloutOutcome> {
    const { rollout, version } = request;
    update({ phase: Math.max(0, active ? planOf(active).length - 1 : 0), until: null, waitingSince: null });
    const keeps = keepMs > 0 && before !== null ? [before] : [];
    const published = await publish({ champion: version, challenger: null, ...(keeps.length > 0 ? { standby: keeps } : {}) }, rollout, reason, by).catch(
      (error: unknown) => {
        if (reportOf(error).code === 'FENCED') return null;
        throw error;
      },
    );
    if (published === null) {
      const { lastBy, lastReason } = await reload();
      const guarded = lastBy === 'guard';
      return { rollout, status: guarded ? 'rolled_back' : 'failed', reason: guarded ? (lastReason ?? 'a guard') : 'somebody else changed the route' };
    }
    const problem = await heldBy(published.epoch);
    const aborted = decision?.kind === 'abort' ? decision : null;
    if (problem !== null || aborted) {
      const why = aborted ? `${aborted.by}: ${aborted.reason}` : (problem ?? '');
      if (before) await publish({ champion: before, challenger: null }, rollout, why, aborted?.by ?? 'endpoint');
      else await remove(why, aborted?.by ?? 'endpoint');
      return { rollout, status: aborted ? 'rolled_back' : 'failed', reason: why };
    }
    servingRollout = rollout;
    kept = keeps[0] ? { version: keeps[0], until: isoIn(keepMs) } : null;
    if (before) {
      stack = [...stack, before].slice(-STACK_LENGTH);
      const soakMs = soakMsOf(request.strategy);
      if (soakMs > 0) startSoak({ request, before, since: active?.since?.at ?? nowIso(), until: isoIn(soakMs) });
    }
    return { rollout, status: 'completed', reason: `${served(version)} answers all requests${before ? `, ${served(before)} before` : ''}` };
  }

  async function remove(reason: string, by: string): Promise<void> {
    await activities.removeRoute({ endpoint: name, epoch: epoch + 1, reason, by });
    epoch += 1;
    route = null;
    servingRollout = null;
    kept = null;
    details();
  }

  /** Undoes one rollout (when it is what serves), or goes back to an earlier version. */
  async function rollBackTo(request: RollbackRequest): Promise<{ champion: ServedVersion | null }> {
    if (request.rollout !== undefined && servingRollout !== request.rollout) return { champion: route?.champion ?? null };
    const target = request.to === undefined ? stack.at(-1) : stack.findLast((v) => v.version === request.to);
    if (!target) {
      if (request.rollout !== undefined) {
        await remove(request.reason, request.by);
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
    await goBack(target, request.rollout ?? null, `${request.by}: ${request.reason}`, request.by);
    // a run's undo moves its own alias
    return { champion: target };
  }

  async function goBack(target: ServedVersion, rollout: string | null, reason: string, by: string): Promise<void> {
    const from = route?.champion ?? null;
    const published = await publish({ champion: target, challenger: null }, rollout, reason, by);
    stack = stack.slice(
      0,
      stack.findLastIndex((v) => isSame(v, target)),
    );
    servingRollout = null;
    kept = null;
    endSoak();
    if (from && rollout === null) await activities.followChampion({ from, to: target, reason: `${name}: ${reason}` });
    await activities.awaitHolders({ endpoint: name, epoch: published.epoch, timeoutMs: HOLD_TIMEOUT_MS });
  }

  /** Late labels are watched beside whatever else the endpoint does, until a rollout begins. */
  function startSoak(of: Soak): void {
    const scope = new CancellationScope();
    const own: Soaking = {
      of,
      end: () => {
        scope.cancel();
      },
      result: null,
    };
    soak = own;
    const { request, before, since, until } = of;
    const watch = async (): Promise<WatchResult> => {
      for (;;) {
        const turnEnds = isoIn(WATCH_TURN_MS);
        const result = await watches.watchRollout({
          endpoint: name,
          rollout: request.rollout,
          epoch: null,
          fromEpoch: null,
          champion: before,
          challenger: request.version,
          guards: guardsOf(request.strategy, 'share'),
          since,
          until: until < turnEnds ? until : turnEnds,
        });
        if (result.kind !== 'passed' || Date.parse(until) <= Date.now()) return result;
      }
    };
    void scope.run(watch).then(
      (result) => (own.result = result),
      (error: unknown) => {
        // a soak that cannot be watched is over: it blocks nothing
        if (!isCancellation(error)) own.result = { kind: 'passed', figures: {} };
      },
    );
    details();
  }

  function endSoak(): void {
    soak?.end();
    soak = null;
  }

  function soakEnded(): boolean {
    return soak?.result != null;
  }

  /** A breach goes back to the version before, when the soaked one still serves, and tells people: the run has ended. */
  async function settleSoak(): Promise<void> {
    const ended = soak;
    endSoak();
    details();
    if (ended?.result?.kind !== 'breach' || servingRollout !== ended.of.request.rollout) return;
    const { request, before } = ended.of;
    const reason = ended.result.reason;
    await goBack(before, null, `late labels: ${reason}`, 'guard');
    await finish({ ...request, workflowId: null }, { rollout: request.rollout, status: 'rolled_back', reason: `after its end: ${reason}` }, true);
  }
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, endpoint);

function heldProblem(held: { readonly holding: number; readonly live: number; readonly problems: readonly string[] }): string {
  if (held.live === 0) return 'No prediction server is running.';
  return `${String(held.live - held.holding)} of ${String(held.live)} prediction servers did not take it: ${held.problems.join('; ') || 'no answer in time'}`;
}
