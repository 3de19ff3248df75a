import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '@temporalio/activity';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createBuildFiles } from '../activities/build-files.ts';
import { stageCodeVersions } from '../activities/code-versions.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { createStageActivities } from '../activities/stage-activities.ts';
import type { StageActivities } from '../activities/types.ts';
import { loadConfig } from '../config/config.ts';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { RunProgress } from '../contracts/run.ts';
import type { DeploymentRef } from '../contracts/references.ts';
import type { RolloutOutcome, StageCall } from '../contracts/stages.ts';
import { freePort } from '../stack/ports.ts';
import { startPostgres } from '../stack/postgres.ts';
import { startTemporal } from '../stack/temporal.ts';
import { prepareNamespace } from '../stack/temporal-namespace.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { openStore } from '../store/store.ts';
import { setCurrentBuild } from '../workers/deployment.ts';
import { createBuildWorker, createPoolWorker, createServiceWorker, createWatchWorker, ensureControllers } from '../workers/hosting.ts';
import { buildProject } from '../workers/project-build.ts';
import { historyFromJson } from './history-json.ts';

/** In place of a stage: gets its input, gives its output. Found by the stage's name in the run, else by its kind. */
export type StageMock = (input: never, call: StageCall) => unknown;

export interface TestEnvironmentOptions {
  /** The project's folder. Default: the working folder. */
  readonly project?: string;
  readonly mocks?: Readonly<Record<string, StageMock>>;
  /** Servers to use instead of starting some. */
  readonly databaseUrl?: string;
  readonly temporalAddress?: string;
  /** In place of the project's millrace.config.ts, which is not read. */
  readonly settings?: unknown;
  /** Default: what lies in the project. */
  readonly pipelinesFolder?: string;
}

export interface TestRun {
  readonly workflowId: string;
  /** What the pipeline returned. @throws the run's failure */
  readonly result: () => Promise<Readonly<Record<string, unknown>>>;
  readonly progress: () => Promise<RunProgress>;
  readonly handle: WorkflowHandle;
}

export interface TestEnvironment {
  readonly deps: ActivityDependencies;
  readonly client: Client;
  readonly buildId: string;
  readonly pipelines: readonly string[];
  /** Starts a run of the pipeline; `{}` is its default input. */
  readonly start: (
    pipeline: string,
    input?: unknown,
    options?: { readonly workflowId?: string; readonly memo?: Readonly<Record<string, unknown>> },
  ) => Promise<TestRun>;
  /** Starts a run and waits for its end. */
  readonly run: (pipeline: string, input?: unknown) => Promise<Readonly<Record<string, unknown>>>;
  /** Replays a history (a JSON file as the Temporal UI and CLI download it) on today's code. @throws when it does not fit */
  readonly replay: (historyFile: string) => Promise<void>;
  readonly close: () => Promise<void>;
}

/**
 * A whole small Millrace in this process, for testing pipelines: real Postgres, real Temporal, a workflow worker and a CPU
 * worker on the project's pipelines. Stages are real unless mocked.
 *
 * @example
 * const env = await createTestEnvironment({ mocks: { deploy: ({ version, endpoint }) => ({ kind: 'deployment', endpoint, version, rollout: '0'.repeat(32) }) } });
 * const result = await env.run('flightDelay', { trees: 5 });
 */
export async function createTestEnvironment(options: TestEnvironmentOptions = {}): Promise<TestEnvironment> {
  const home = await mkdtemp(join(tmpdir(), 'millrace-test-'));
  const closing: (() => Promise<unknown>)[] = [() => rm(home, { recursive: true, force: true })];
  const close = async (): Promise<void> => {
    for (const step of closing.splice(0).reverse()) await step();
  };
  try {
    const databaseUrl = options.databaseUrl ?? (await ownPostgres(home, closing));
    const address = options.temporalAddress ?? (await ownTemporal(home, closing));
    const namespace = options.temporalAddress === undefined ? 'default' : `test-${randomBytes(6).toString('hex')}`;
    const config = loadConfig({
      cwd: options.project ?? process.cwd(),
      settings: options.settings,
      env: {
        ...process.env,
        MILLRACE_HOME: home,
        DATABASE_URL: databaseUrl,
        TEMPORAL_ADDRESS: address,
        TEMPORAL_NAMESPACE: namespace,
        ...(options.pipelinesFolder === undefined ? {} : { MILLRACE_PIPELINES: options.pipelinesFolder }),
      },
    });
    const store = openStore({ databaseUrl });
    closing.push(() => store.close());
    await store.migrate();
    const artifacts = await openArtifacts(config.artifacts.folder);
    const clientConnection = await Connection.connect({ address });
    closing.push(() => clientConnection.close());
    const client = new Client({ connection: clientConnection, namespace });
    await prepareNamespace(clientConnection, namespace);
    quietRuntime();
    const connection = await NativeConnection.connect({ address });
    closing.push(() => connection.close());
    const deps: ActivityDependencies = {
      config,
      store,
      artifacts,
      client,
      builds: createBuildFiles({ store, artifacts, home, projectFolder: config.projectFolder }),
      codeVersions: await stageCodeVersions(),
      worker: `test:${String(process.pid)}`,
      log: (level, message, details) => {
        if (level === 'error') process.stderr.write(`${message} ${JSON.stringify(details ?? {})}\n`);
      },
    };
    const { id: buildId, pipelines } = await buildProject(deps);
    const names = pipelines.map((pipeline) => pipeline.name);
    const hosting = { deps, connection };
    const stageActivities = withMocks(deps, options.mocks ?? {});
    const workers = [
      await createBuildWorker(hosting, buildId),
      await createPoolWorker(hosting, 'cpu', availableParallelism(), stageActivities),
      await createServiceWorker(hosting, stageActivities),
      await createWatchWorker(hosting),
    ];
    const running = workers.map((worker) => worker.run());
    closing.push(async () => {
      for (const worker of workers) worker.shutdown();
      await Promise.all(running);
    });
    await setCurrentBuild(client, namespace, buildId);
    await ensureControllers(deps, pipelines);

    const start: TestEnvironment['start'] = async (pipeline, input = {}, { workflowId = `${pipeline}-${randomBytes(6).toString('hex')}`, memo } = {}) => {
      const handle = await client.workflow.start(pipeline, { workflowId, taskQueue: WORKFLOW_QUEUE, args: [input], ...(memo ? { memo: { ...memo } } : {}) });
      return {
        workflowId,
        handle,
        result: () => handle.result() as Promise<Readonly<Record<string, unknown>>>,
        progress: () => handle.query<RunProgress>('progress'),
      };
    };
    return {
      deps,
      client,
      buildId,
      pipelines: names,
      start,
      run: async (pipeline, input) => (await start(pipeline, input)).result(),
      replay: async (historyFile) => {
        const history = historyFromJson(JSON.parse(await readFile(historyFile, 'utf8')));
        await Worker.runReplayHistory({ workflowBundle: { codePath: await deps.builds.workflowBundle(buildId) } }, history);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function withMocks(deps: ActivityDependencies, mocks: Readonly<Record<string, StageMock>>): StageActivities {
  const real = createStageActivities(deps);
  const mockOf = (call: StageCall): StageMock | undefined => mocks[call.stage] ?? mocks[call.kind];
  return {
    ...real,
    lookupStage: async (call) => (mockOf(call) ? null : real.lookupStage(call)),
    runStage: async (call) => {
      const mock = mockOf(call);
      if (!mock) return real.runStage(call);
      const output: unknown = await mock(call.input as never, call);
      if (call.kind === 'deploy') await endRollout(deps, output as DeploymentRef);
      if (call.kind === 'deploy') await tellRolloutEnded(deps, call.runId, output);
      return { output, cached: false, summary: 'mocked' };
    },
  };
}

let runtimeIsQuiet = false;
/** The SDK's runtime is one a process, and can be set up before its first use only. */
function quietRuntime(): void {
  if (runtimeIsQuiet) return;
  runtimeIsQuiet = true;
  try {
    Runtime.install({ logger: new DefaultLogger('WARN'), shutdownSignals: [] });
  } catch {
    // the test has set up a runtime of its own
  }
}

/** A run waits for its rollout to end; one that is mocked has ended well. */
async function tellRolloutEnded(deps: ActivityDependencies, runId: string, deployment: unknown): Promise<void> {
  const { workflowId } = await deps.store.runs.get(runId);
  const { rollout } = deployment as { readonly rollout: string };
  if (workflowId !== null) await deps.client.workflow.getHandle(workflowId).signal('rolloutFinished', { rollout, status: 'completed', reason: 'mocked' });
}

/** A mocked deployment has no endpoint that would tell the run how its rollout ended. */
async function endRollout(deps: ActivityDependencies, { rollout }: DeploymentRef): Promise<void> {
  const { workflowExecution } = Context.current().info;
  const outcome: RolloutOutcome = { rollout, status: 'completed', reason: 'mocked' };
  await deps.client.workflow.getHandle(workflowExecution?.workflowId ?? '').signal('rolloutFinished', outcome);
}

async function ownPostgres(home: string, closing: (() => Promise<unknown>)[]): Promise<string> {
  const postgres = await startPostgres({ dataFolder: join(home, 'postgres'), port: await freePort(), logFile: join(home, 'postgres.log'), throwAway: true });
  closing.push(() => postgres.stop());
  return postgres.url;
}

async function ownTemporal(home: string, closing: (() => Promise<unknown>)[]): Promise<string> {
  const temporal = await startTemporal({ inMemory: true, port: await freePort(), logFile: join(home, 'temporal.log') });
  closing.push(() => temporal.stop());
  return temporal.address;
}
