import { Context } from '@temporalio/activity';
import { WorkflowNotFoundError } from '@temporalio/client';
import { MillraceError } from '../contracts/errors.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import type { RouteChange } from '../store/endpoints.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import type { EndpointActivities, StoredEndpoint } from './types.ts';

const LOOK_EVERY_MS = 250;
/** Fewer requests than this say nothing of a challenger. */
const LEAST_REQUESTS = 20;
const STACK_LENGTH = 10;

/** What an endpoint's workflow does in the world: publish routes under its epoch, and look how they are taken up. */
export function createEndpointActivities(deps: ActivityDependencies): EndpointActivities {
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
      return { route, epoch, ...retrace(history) };
    }),
    publishRoute: guard(async ({ route, rollout }) => {
      await store.endpoints.setRoute({ route, expectedEpoch: route.epoch - 1, rolloutId: rollout });
    }),
    removeRoute: guard(async ({ endpoint, epoch }) => {
      await store.endpoints.removeRoute({ endpoint, expectedEpoch: epoch - 1, rolloutId: null });
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
    checkGuard: guard(async ({ endpoint, champion, challenger, since, strategy }) => {
      if (strategy.kind !== 'canary') return { breach: null, figures: {} };
      // intervals are whole seconds: one that began before the step counts towards it
      const from = new Date(Math.floor(Date.parse(since) / 1000) * 1000).toISOString();
      const read = (v: ServedVersion) => store.stats.read({ endpoint, model: v.model, version: v.version, from });
      const [tried, ruling] = await Promise.all([read(challenger), champion ? read(champion) : null]);
      const errorRate = tried.requests === 0 ? 0 : tried.errors / tried.requests;
      const figures = {
        requests: tried.requests,
        errors: tried.errors,
        latencyMsMean: tried.latencyMsMean,
        championRequests: ruling?.requests ?? 0,
        championLatencyMsMean: ruling?.latencyMsMean ?? 0,
      };
      if (tried.requests < LEAST_REQUESTS) return { breach: null, figures };
      const championErrorRate = ruling && ruling.requests > 0 ? ruling.errors / ruling.requests : 0;
      if (errorRate > strategy.maxErrorRate && errorRate > championErrorRate) {
        return { breach: `${percent(errorRate)} of its requests failed; at most ${percent(strategy.maxErrorRate)} may`, figures };
      }
      const ratio = ruling && ruling.requests >= LEAST_REQUESTS && ruling.latencyMsMean > 0 ? tried.latencyMsMean / ruling.latencyMsMean : 1;
      // below a millisecond a ratio measures the machine, not the model
      if (ratio > strategy.maxLatencyRatio && tried.latencyMsMean > 1) {
        return {
          breach: `its requests took ${ratio.toFixed(1)} times the champion's time; at most ${String(strategy.maxLatencyRatio)} times is allowed`,
          figures,
        };
      }
      return { breach: null, figures };
    }),
    noteRollout: guard(async ({ rollout, status, note, figures }) => {
      try {
        if (status === 'running')
          await store.rollouts.advance({ id: rollout, step: { at: new Date().toISOString(), name: note, ...(figures ? { figures } : {}) } });
        else await store.rollouts.finish({ id: rollout, status, reason: note });
      } catch (error) {
        // an outcome that stands already stays: this is a repeated attempt, or the run's undo came first
        if (!(error instanceof MillraceError && error.code === 'CONFLICT')) throw error;
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

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** What served before the present champion, the latest last, and which rollout brought that one; from the history, newest first. */
function retrace(history: readonly RouteChange[]): Pick<StoredEndpoint, 'stack' | 'rollout'> {
  let champion: ServedVersion | null = null;
  let rollout: string | null = null;
  let stack: ServedVersion[] = [];
  for (const change of [...history].reverse()) {
    const next = change.champion;
    if (isSame(next, champion)) continue;
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
