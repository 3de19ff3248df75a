/** One worker of the simulated days, to be killed at any moment: of `workflows`, or of `activities` of all kinds. */
import { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createBuildFiles } from '../activities/build-files.ts';
import { stageCodeVersions } from '../activities/code-versions.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { createEndpointActivities } from '../activities/endpoint-activities.ts';
import { createEndpointWatches } from '../activities/endpoint-watches.ts';
import { createMonitorActivities } from '../activities/monitor-activities.ts';
import { createRetrainingActivities } from '../activities/retraining-activities.ts';
import { createRunActivities } from '../activities/run-activities.ts';
import { createStageActivities } from '../activities/stage-activities.ts';
import { loadConfig } from '../config/config.ts';
import { SERVICE_QUEUE, WATCH_QUEUE, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { openStore } from '../store/store.ts';
import { createPoolWorker } from '../workers/hosting.ts';
import { workerIdentity } from './simulated-deaths.ts';
import { inServerTime, simulateClock } from './simulated-time.ts';
import { connectToTestServer } from './time-skipping-server.ts';

Runtime.install({ logger: new DefaultLogger('ERROR') });
const [role = '', project = '', buildId = ''] = process.argv.slice(2);
const config = loadConfig({ cwd: project, env: process.env, settings: {} });
const store = openStore({ databaseUrl: process.env['DATABASE_URL'] ?? '', poolSize: 4 });
const artifacts = await openArtifacts(config.artifacts.folder);
const { address, namespace } = config.temporal;
const connection = await NativeConnection.connect({ address });
const test = await connectToTestServer(address);
const client = new Client({ connection: test.connection, namespace });
const deps: ActivityDependencies = {
  config,
  store,
  artifacts,
  client,
  builds: createBuildFiles({ store, artifacts, home: config.home, projectFolder: config.projectFolder }),
  codeVersions: await stageCodeVersions(),
  worker: workerIdentity(role, process.pid),
  log: (level, message, details) => {
    if (level === 'error') process.stderr.write(`${message} ${JSON.stringify(details ?? {})}\n`);
  },
};
const common = { connection, namespace, identity: deps.worker } as const;

/** The test server knows no versions of workers, and no slots of other processes: what is hosted is what workers/hosting.ts hosts. */
async function workersOf(): Promise<readonly Worker[]> {
  if (role === 'workflows')
    return [
      await Worker.create({
        ...common,
        taskQueue: WORKFLOW_QUEUE,
        workflowBundle: { codePath: await deps.builds.workflowBundle(buildId) },
        activities: createRunActivities(deps),
      }),
    ];
  simulateClock();
  const server = {
    time: test.time,
    heartbeat: (taskToken: Uint8Array) => client.workflowService.recordActivityTaskHeartbeat({ namespace, taskToken, identity: deps.worker }),
  };
  const retraining = createRetrainingActivities(deps);
  const watches = createEndpointWatches(deps);
  return [
    await Worker.create({
      ...common,
      taskQueue: SERVICE_QUEUE,
      activities: {
        ...createStageActivities(deps),
        ...createEndpointActivities(deps),
        ...createMonitorActivities(deps),
        ...retraining,
        followRetraining: inServerTime(server, (run: Parameters<typeof retraining.followRetraining>[0]) => retraining.followRetraining(run)),
      },
    }),
    await Worker.create({
      ...common,
      taskQueue: WATCH_QUEUE,
      activities: { watchRollout: inServerTime(server, (of: Parameters<typeof watches.watchRollout>[0]) => watches.watchRollout(of)) },
    }),
    await createPoolWorker({ deps, connection }, 'cpu', 2),
  ];
}

const workers = await workersOf();
process.stdout.write('polls\n');
await Promise.all(workers.map((worker) => worker.run()));
