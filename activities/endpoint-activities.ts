import { Context } from '@temporalio/activity';
import { WorkflowNotFoundError } from '@temporalio/client';
import { MillraceError } from '../contracts/errors.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import type { RouteChange } from '../store/endpoints.ts';
import type { AlertToRaise } from '../contracts/alerts.ts';
import { CHAMPION_ALIAS } from '../store/models.ts';
import { holdOf } from '../store/rollouts.ts';
import type { Store } from '../store/store.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import { judgeTest } from './judge-test.ts';
import type { EndpointActivities, IdentityActivities, StoredEndpoint } from './types.ts';

const LOOK_EVERY_MS = 250;
const STACK_LENGTH = 10;

/** What an endpoint's workflow does in the world: publish routes under its epoch, and look how they are taken up; and what all updates are looked at with. */
export function createEndpointActivities(deps: ActivityDependencies): EndpointActivities & IdentityActivities {
  const { store } = deps;
  const guard =
    <Input, Output>(work: (input: Input) => Promise<Output>) =>
    async (input: Input): Promise<Output> => {
      try {
        return await work(input);
      } catch (error) {
        throw toActivityFailure(error, 1, (original) => {
          deps.log('error', 'endpoint', { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    };
  return {
    loadEndpoint: guard(async ({ endpoint }) => {
      await store.endpoints.ensure(endpoint);
      const [route, epoch, history] = await Promise.all([
        store.endpoints.route(endpoint),
        store.endpoints.routeEpoch(endpoint),
        store.endpoints.routeHistory(endpoint, 1_000),
      ]);
      const [last] = history;
      return { route, epoch, ...retrace(history), lastBy: last?.by ?? null, lastReason: last?.reason ?? null };
    }),
    revokeApproval: guard(async (input) => {
      await store.approvals.revoke(input);
    }),
    authorizeUpdate: guard((input) => store.tokens.spendVoucher(input)),
    publishRoute: guard(async ({ route, rollout, reason, by }) => {
      await store.endpoints.setRoute({ route, expectedEpoch: route.epoch - 1, rolloutId: rollout, reason, by });
    }),
    removeRoute: guard(async ({ endpoint, epoch, reason, by }) => {
      await store.endpoints.removeRoute({ endpoint, expectedEpoch: epoch - 1, rolloutId: null, reason, by });
    }),
    awaitHolders: guard(async ({ endpoint, epoch, timeoutMs }) => {
      const until = Date.now() + timeoutMs;
      for (;;) {
        const { live, holding, problems } = await store.servers.holders({ endpoint, epoch });
        // a server that says why it cannot take the route is not waited for
        if ((live > 0 && (holding >= live || problems.length > 0)) || Date.now() >= until) return { live, holding, problems };
        Context.current().heartbeat();
        await Context.current().sleep(LOOK_EVERY_MS);
      }
    }),
    noteRollout: guard(async ({ rollout, status, note, at, figures, tell }) => {
      try {
        const alert = tell && (await alertOf(store, rollout, note, at, tell));
        const more = alert === undefined ? {} : { alert };
        if (status === 'running') await store.rollouts.advance({ id: rollout, step: { at, name: note, ...(figures ? { figures } : {}) }, ...more });
        else await store.rollouts.finish({ id: rollout, status, reason: note, ...more });
      } catch (error) {
        // an outcome that stands already stays: this is a repeated attempt, or the run's undo came first
        if (!(error instanceof MillraceError && error.code === 'CONFLICT')) throw error;
      }
    }),
    judgeTest: guard(async (input) => {
      // what became known is added up by whole minutes
      const from = `${input.since.slice(0, 16)}:00.000Z`;
      return judgeTest(await store.stats.outcomes({ endpoint: input.endpoint, metrics: [input.metric], from }), input);
    }),
    followChampion: guard(async ({ from, to, reason }) => {
      if (from.model !== to.model) return;
      const alias = await store.models.alias(from.model, CHAMPION_ALIAS);
      if (alias?.version !== from.version) return;
      try {
        await store.models.moveAlias({ model: to.model, alias: CHAMPION_ALIAS, version: to.version, expectedEpoch: alias.epoch, reason });
      } catch (error) {
        // somebody moved it meanwhile: the newer move stands
        if (!(error instanceof MillraceError && error.code === 'FENCED')) throw error;
      }
    }),
    tellRun: guard(async ({ workflowId, outcome }) => {
      try {
        await deps.client.workflow.getHandle(workflowId).signal('rolloutFinished', outcome);
      } catch (error) {
        if (!(error instanceof WorkflowNotFoundError)) throw error; // the run has ended: nobody waits
      }
    }),
  };
}

async function alertOf(
  store: Store,
  rollout: string,
  note: string,
  since: string,
  { endpoint, kind }: { endpoint: string; kind: 'waits' | 'taken back' },
): Promise<AlertToRaise> {
  const { model, version } = await store.rollouts.get(rollout);
  const which = `${model} ${String(version)} at ${endpoint}`;
  const common = { ...holdOf({ id: rollout, endpoint }), since, against: null, sure: null, look: `/api/v1/endpoints/${endpoint}`, group: `rollout/${rollout}` };
  if (kind === 'waits')
    return {
      ...common,
      severity: 'info',
      what: `The rollout of ${which} waits for a person: ${note}.`,
      command: `millrace endpoints promote ${endpoint} --reason TEXT`,
    };
  return {
    ...common,
    subject: `${common.subject} taken back`,
    event: true,
    what: `The rollout of ${which} was taken back: ${note}`,
    command: `millrace endpoints show ${endpoint} --history`,
  };
}

/** What served before the present champion, the latest last, and which rollout brought that one; from the history, newest first. */
function retrace(history: readonly RouteChange[]): Pick<StoredEndpoint, 'stack' | 'rollout'> {
  let champion: ServedVersion | null = null;
  let rollout: string | null = null;
  let stack: ServedVersion[] = [];
  for (const change of [...history].reverse()) {
    const next = change.champion;
    if (isSame(next, champion)) {
      // the same version, perhaps with other rules of decision
      champion = next;
      continue;
    }
    const back: number = next === null ? -1 : stack.findLastIndex((v) => isSame(v, next));
    if (back >= 0) {
      stack = stack.slice(0, back);
      rollout = null;
    } else {
      if (champion !== null) stack = [...stack, champion].slice(-STACK_LENGTH);
      rollout = change.rolloutId;
    }
    champion = next;
  }
  return { stack, rollout };
}

const isSame = (a: ServedVersion | null, b: ServedVersion | null): boolean => a?.model === b?.model && a?.version === b?.version;
