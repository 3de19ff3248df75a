import { Worker, type NativeConnection } from '@temporalio/worker';
import { createEndpointActivities } from '../activities/endpoint-activities.ts';
import { createEndpointWatches } from '../activities/endpoint-watches.ts';
import { createMonitorActivities } from '../activities/monitor-activities.ts';
import { createRetrainingActivities } from '../activities/retraining-activities.ts';
import { createRunActivities } from '../activities/run-activities.ts';
import { createStageActivities } from '../activities/stage-activities.ts';
import { createTriggerActivities } from '../activities/trigger-activities.ts';
import type { BuiltPipeline } from '../activities/build-files.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import type { StageActivities } from '../activities/types.ts';
import { endpointWorkflowId, poolQueue, retrainingWorkflowId, SERVICE_QUEUE, WATCH_QUEUE, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { DEPLOYMENT } from './deployment.ts';

/** How workers are made of dependencies: the one place, for processes and for tests alike. */
export interface Hosting {
  readonly deps: ActivityDependencies;
  readonly connection: NativeConnection;
}

/** Work that is under way when a worker is told to stop may take this long; then it is cancelled. */
const SHUTDOWN_GRACE_MS = 5_000;
const SERVICE_SLOTS = 50;
const WATCH_SLOTS = 1_000;
const COMMON = { shutdownGraceTime: SHUTDOWN_GRACE_MS, maxHeartbeatThrottleInterval: '1 second', defaultHeartbeatThrottleInterval: '1 second' } as const;

/** A worker that runs the workflows of one build. */
export async function createBuildWorker({ deps, connection }: Hosting, buildId: string): Promise<Worker> {
  return Worker.create({
    connection,
    namespace: deps.config.temporal.namespace,
    taskQueue: WORKFLOW_QUEUE,
    identity: deps.worker,
    workflowBundle: { codePath: await deps.builds.workflowBundle(buildId) },
    activities: createRunActivities(deps),
    workerDeploymentOptions: { version: { deploymentName: DEPLOYMENT, buildId }, useWorkerVersioning: true, defaultVersioningBehavior: 'PINNED' },
    shutdownGraceTime: SHUTDOWN_GRACE_MS,
  });
}

/** A worker of one pool: takes stages from its task queue, as many at once as it has slots. */
export function createPoolWorker(
  { deps, connection }: Hosting,
  pool: string,
  slots: number,
  stageActivities: StageActivities = createStageActivities(deps),
): Promise<Worker> {
  return Worker.create({
    connection,
    namespace: deps.config.temporal.namespace,
    taskQueue: poolQueue(pool),
    identity: deps.worker,
    activities: { ...stageActivities },
    maxConcurrentActivityTaskExecutions: slots,
    ...COMMON,
  });
}

/** A worker of the engine's light work, which waits rather than computes. */
export function createServiceWorker({ deps, connection }: Hosting, stageActivities: StageActivities = createStageActivities(deps)): Promise<Worker> {
  return Worker.create({
    connection,
    namespace: deps.config.temporal.namespace,
    taskQueue: SERVICE_QUEUE,
    identity: deps.worker,
    activities: {
      ...stageActivities,
      ...createEndpointActivities(deps),
      ...createRetrainingActivities(deps),
      ...createMonitorActivities(deps),
      ...createTriggerActivities(deps),
    },
    maxConcurrentActivityTaskExecutions: SERVICE_SLOTS,
    ...COMMON,
  });
}

/** A worker of what is watched for hours: each watch is a look a second. */
export function createWatchWorker({ deps, connection }: Hosting): Promise<Worker> {
  return Worker.create({
    connection,
    namespace: deps.config.temporal.namespace,
    taskQueue: WATCH_QUEUE,
    identity: deps.worker,
    activities: { ...createEndpointWatches(deps) },
    maxConcurrentActivityTaskExecutions: WATCH_SLOTS,
    maxConcurrentActivityTaskPolls: 2,
    ...COMMON,
    // a watch has nothing to finish: another worker goes on with it
    shutdownGraceTime: 0,
  });
}

/** The controllers that people and programs signal must exist before the first signal. */
export async function ensureControllers(deps: ActivityDependencies, pipelines: readonly Pick<BuiltPipeline, 'name' | 'retraining'>[]): Promise<void> {
  const start = (type: string, workflowId: string, name: string) =>
    deps.client.workflow.start(type, { workflowId, taskQueue: WORKFLOW_QUEUE, args: [name], workflowIdConflictPolicy: 'USE_EXISTING' });
  const endpoints = await deps.store.endpoints.list({ limit: 1_000 });
  await Promise.all([
    ...pipelines.map(({ name, retraining = {} }) =>
      deps.client.workflow.signalWithStart('retraining', {
        workflowId: retrainingWorkflowId(name),
        taskQueue: WORKFLOW_QUEUE,
        args: [name],
        signal: 'defined',
        signalArgs: [retraining],
      }),
    ),
    ...endpoints.map((e) => start('endpoint', endpointWorkflowId(e.name), e.name)),
  ]);
}
