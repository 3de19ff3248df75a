import { ScheduleNotFoundError } from '@temporalio/client';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import type { AlertKind } from '../contracts/alerts.ts';
import { monitorScheduleId } from '../contracts/queues.ts';

/** What a monitor raises at its endpoint, and its next look resolves. */
const OF_MONITORS: readonly AlertKind[] = ['drift', 'quality', 'skew', 'data', 'system'];
/** What the controller of a pipeline raises, and its next retraining resolves. */
const OF_CONTROLLERS: readonly AlertKind[] = ['retraining', 'experiment'];
const MOST = 1_000;

type Deps = Pick<ActivityDependencies, 'store' | 'client'>;

/**
 * Closes alerts that would stay open for ever, since what raised them is gone: the endpoint, its monitor, or the pipeline,
 * whose open request for an experiment is closed too. One that only rests, as a schedule that people have paused, is not gone.
 * @returns Ids.
 */
export async function closeAbandonedAlerts(deps: Deps, pipelines: readonly string[]): Promise<readonly number[]> {
  const { alerts, retraining } = deps.store;
  const standing = (await Promise.all([...OF_MONITORS, ...OF_CONTROLLERS].map((kind) => alerts.list({ kind, limit: MOST })))).flat();
  const closed: number[] = [];
  for (const endpoint of namesOf(standing, 'endpoint')) {
    const because = await whyUnwatched(deps, endpoint);
    if (because !== null) closed.push(...(await alerts.abandon({ kinds: OF_MONITORS, endpoint }, because)));
  }
  for (const pipeline of namesOf(standing, 'pipeline')) {
    if (pipelines.includes(pipeline)) continue;
    const because = `the project has no pipeline ${pipeline} any more`;
    await retraining.closeExperiment({ pipeline, by: null, comment: because });
    closed.push(...(await alerts.abandon({ kinds: OF_CONTROLLERS, pipeline }, because)));
  }
  return closed;
}

const namesOf = (standing: readonly { readonly endpoint: string | null; readonly pipeline: string | null }[], field: 'endpoint' | 'pipeline') =>
  new Set(standing.flatMap((alert) => alert[field] ?? []));

/** Null where its monitor will look again. */
async function whyUnwatched({ store, client }: Deps, endpoint: string): Promise<string | null> {
  if ((await store.endpoints.route(endpoint)) === null) return `nothing answers at ${endpoint} any more`;
  try {
    await client.schedule.getHandle(monitorScheduleId(endpoint)).describe();
    return null;
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return `nothing watches ${endpoint} any more`;
    throw error;
  }
}
