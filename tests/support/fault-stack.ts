/**
 * A whole stack for the tests of faults: processes of its own, killed by their real process ids.
 *
 * Invariants:
 * 1. Whatever a test does, `close` stops what was started and answers with every process that is still there.
 * 2. Tests wait for what they see (records, routes, the run's progress), never for a time.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection, defaultPayloadConverter, type WorkflowHandle } from '@temporalio/client';
import { expect } from 'vitest';
import { predict } from '../../cli/predict.ts';
import { loadConfig, type MillraceConfig, PORT_VARIABLES } from '../../config/config.ts';
import { packageRoot } from '../../config/package-root.ts';
import { postgresFolder } from '../../config/service-addresses.ts';
import { endpointWorkflowId, retrainingWorkflowId, WORKFLOW_QUEUE } from '../../contracts/queues.ts';
import type { RunProgress } from '../../contracts/run.ts';
import type { StageHeartbeat } from '../../contracts/stages.ts';
import { builtEntryPath, childEnvironment, NODE_PARTS, type PartName } from '../../stack/parts.ts';
import { freePort } from '../../stack/ports.ts';
import { type RunningStack, startStack } from '../../stack/stack.ts';
import { createSupervisor, type Supervisor } from '../../stack/supervisor.ts';
import { openStore, type Store } from '../../store/store.ts';
import type { StageRecord } from '../../store/stages.ts';

export const PIPELINE = 'faultFlights';
export const MODEL = 'fault-flights';
export const ENDPOINT = 'fault-flights';
const FLIGHT = { date: '2001-06-29T18:05:00Z', distance: 1846, origin: 'SFO' };
const LOOK_EVERY_MS = 20;
const SECOND_WORKER = 'cpu-worker-2';
/** Of a pending activity, in Temporal's numbers. */
const STARTED = 2;

export interface FaultRun {
  readonly workflowId: string;
  /** Of the record. */
  readonly runId: string;
  readonly handle: WorkflowHandle;
}

/** What the pipeline of tests/e2e/fault-project returns. */
export interface FaultResult {
  readonly version: number;
  readonly predictor: string;
}

export interface FaultStack {
  readonly config: MillraceConfig;
  readonly store: Store;
  readonly client: Client;
  /** Starts the pipeline and answers when its record is there. */
  readonly start: (input?: Readonly<Record<string, unknown>>) => Promise<FaultRun>;
  readonly run: (input?: Readonly<Record<string, unknown>>) => Promise<FaultRun & FaultResult>;
  /** Kills the part with SIGKILL. */
  readonly kill: (part: PartName) => void;
  /** Resolves when the part is ready again after `kill`. */
  readonly revived: (part: PartName) => Promise<void>;
  /** Waits for the stage's record to be as wanted. */
  readonly stage: (run: FaultRun, name: string, wanted: (stage: StageRecord) => boolean) => Promise<StageRecord>;
  /** Waits until the run waits at the gate. */
  readonly gate: (run: FaultRun, gate: string) => Promise<void>;
  readonly approve: (run: FaultRun, gate: string) => Promise<void>;
  /** The first step that the training tells of in this attempt; everything before it was not done again. */
  readonly firstStepOf: (run: FaultRun, attempt: number) => Promise<number>;
  /** Checks all that a run that ended well has to leave: nothing twice, nothing half. */
  readonly expectEndedWell: (run: FaultRun) => Promise<FaultResult>;
  /** Waits until no workflow but the controllers is open, and checks that the records say so too. */
  readonly nothingGoesOn: () => Promise<void>;
  /** Asks the endpoint over HTTP; the version that answered. */
  readonly answeringVersion: () => Promise<number>;
  /** Starts one more worker: of the pool `gpu` (the stack has one only where a GPU is found; its program runs anywhere), or a second of `cpu`. */
  readonly startWorker: (name: 'cpu-worker' | 'gpu-worker') => Promise<void>;
  /** Stops the worker that the record names in its tracks; the function that comes back lets it go on. */
  readonly freeze: (stage: StageRecord) => () => void;
  /** Stops everything, once; answers with the processes that were left, as text. */
  readonly close: () => Promise<readonly string[]>;
}

/** Looks until it is so. The test's own timeout ends it. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(LOOK_EVERY_MS);
}

/** Default project: tests/e2e/fault-project, whose pipeline the stack's own methods start. */
export async function startFaultStack(project = 'fault-project'): Promise<FaultStack> {
  const home = mkdtempSync(join(tmpdir(), 'millrace-faults-'));
  const ports = await Promise.all(Object.values(PORT_VARIABLES).map(async ({ variable }) => [variable, String(await freePort())] as const));
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(MILLRACE_(?!CACHE)|TEMPORAL_(?!CLI)|DATABASE_URL)/.test(name)));
  const config = loadConfig({
    cwd: join(packageRoot, 'tests', 'e2e', project),
    env: { ...inherited, MILLRACE_HOME: home, ...Object.fromEntries(ports) },
  });

  /** How often each part became ready: the sign that one was started again. */
  const readied = new Map<string, number>();
  const awaited = new Map<PartName, number>();
  const onEvent = (event: { readonly type: string; readonly name: string }): void => {
    if (event.type === 'ready') readied.set(event.name, (readied.get(event.name) ?? 0) + 1);
  };
  let stack: RunningStack | undefined;
  let extra: Supervisor | undefined;
  let store: Store | undefined;
  let connection: Connection | undefined;
  let closing: Promise<readonly string[]> | undefined;
  const close = (): Promise<readonly string[]> => (closing ??= stopAll());
  const stopAll = async (): Promise<readonly string[]> => {
    await connection?.close();
    await store?.close();
    await extra?.stop();
    await stack?.stop();
    const left = processesOf(home);
    rmSync(clusterFolder(home), { recursive: true, force: true });
    rmSync(home, { recursive: true, force: true });
    return left;
  };
  try {
    stack = await startStack({ config, parts: ['postgres', 'temporal', 'orchestrator', 'cpu-worker', 'serving'], stopOnSignals: false, onEvent });
    store = openStore({ databaseUrl: stack.databaseUrl, poolSize: 3 });
    connection = await Connection.connect({ address: config.temporal.address });
  } catch (error) {
    await close();
    throw error;
  }
  const running = stack;
  const records = store;
  const client = new Client({ connection, namespace: config.temporal.namespace });
  let runs = 0;

  const start: FaultStack['start'] = async (input = {}) => {
    const workflowId = `fault-${String(++runs)}`;
    const handle = await client.workflow.start(PIPELINE, { workflowId, taskQueue: WORKFLOW_QUEUE, args: [input] });
    await until(async () => (await records.runs.findByWorkflow(workflowId)) !== null);
    return { workflowId, runId: (await records.runs.findByWorkflow(workflowId))?.id ?? '', handle };
  };
  const answeringVersion = async (): Promise<number> => (await predict(config, ENDPOINT, [FLIGHT])).version;

  const nothingGoesOn = async (): Promise<void> => {
    // the controllers stay, and wait for the next signal
    const controllers = new Set([endpointWorkflowId(ENDPOINT), retrainingWorkflowId(PIPELINE)]);
    await until(async () => (await openWorkflows(client)).every((id) => controllers.has(id)));
    expect(await records.runs.open()).toEqual([]);
    expect(await records.undos.owing()).toEqual([]);
  };

  const expectEndedWell: FaultStack['expectEndedWell'] = async (run) => {
    const versionsBefore = (await records.models.versions({ model: MODEL, limit: 1_000 })).filter((version) => version.runId !== run.runId);
    const result = (await run.handle.result()) as FaultResult;
    const record = await records.runs.get(run.runId);
    expect(record).toMatchObject({ status: 'completed', error: null });
    expect((await records.stages.list(run.runId)).filter((stage) => stage.status !== 'completed')).toEqual([]);

    expect((await records.models.versionsOfRun(run.runId)).map(({ model, version }) => ({ model, version }))).toEqual([
      { model: MODEL, version: result.version },
    ]);
    expect(versionsBefore.map((version) => version.version)).not.toContain(result.version);
    expect((await records.rollouts.list({ runId: run.runId })).map(({ status, version }) => ({ status, version }))).toEqual([
      { status: 'completed', version: result.version },
    ]);

    expect(await records.models.alias(MODEL, 'champion')).toMatchObject({ version: result.version });
    expect((await records.models.aliasHistory(MODEL, 'champion')).filter((move) => move.movedByRun === run.runId)).toHaveLength(1);
    expect(await records.endpoints.route(ENDPOINT)).toMatchObject({
      champion: { model: MODEL, version: result.version, predictor: result.predictor },
      challenger: null,
    });
    expect(
      (await records.endpoints.routeHistory(ENDPOINT, 1_000)).filter((change) => change.champion?.version === result.version && change.challenger === null),
    ).toHaveLength(1);
    expect(await answeringVersion()).toBe(result.version);

    await nothingGoesOn();
    return result;
  };

  return {
    config,
    store: records,
    client,
    start,
    run: async (input) => {
      const started = await start(input);
      return { ...started, ...(await expectEndedWell(started)) };
    },
    kill: (part) => {
      const status = [...running.status().parts, ...(extra?.status() ?? [])].find((p) => p.name === part);
      if (status?.process === undefined) throw new Error(`${part} does not run`);
      awaited.set(part, (readied.get(part) ?? 0) + 1);
      process.kill(status.process.pid, 'SIGKILL');
    },
    revived: (part) => until(() => Promise.resolve((readied.get(part) ?? 0) >= (awaited.get(part) ?? Number.POSITIVE_INFINITY))),
    stage: async (run, name, wanted) => {
      for (;;) {
        const found = await records.stages.find(run.runId, name);
        if (found !== null && wanted(found)) return found;
        await sleep(LOOK_EVERY_MS);
      }
    },
    gate: ({ handle }, gate) => until(async () => (await handle.query<RunProgress>('progress')).gates.some((open) => open.gate === gate)),
    approve: async ({ handle }, gate) => {
      await handle.executeUpdate('approve', { args: [{ gate, by: 'tester', reason: 'better than the last one' }] });
    },
    firstStepOf: async ({ handle, runId }, attempt) => {
      for (;;) {
        if ((await records.runs.get(runId)).status === 'completed') throw new Error('the run ended before the attempt told of a step');
        for (const activity of (await handle.describe()).raw.pendingActivities ?? []) {
          const state: number = activity.state ?? 0;
          // until an attempt has a heartbeat of its own, the last one of the attempt before it is shown
          if (activity.attempt !== attempt || state !== STARTED || timeOf(activity.lastHeartbeatTime) <= timeOf(activity.lastStartedTime)) continue;
          const payload = activity.heartbeatDetails?.payloads?.[0];
          const { message } = payload ? defaultPayloadConverter.fromPayload<StageHeartbeat>(payload) : { message: '' };
          const step = /^step (\d+)/.exec(message)?.[1];
          if (step !== undefined) return Number(step);
        }
        await sleep(LOOK_EVERY_MS);
      }
    },
    expectEndedWell,
    nothingGoesOn,
    answeringVersion,
    freeze: ({ worker }) => {
      const pid = Number(/:(\d+)$/.exec(worker ?? '')?.[1]);
      process.kill(pid, 'SIGSTOP');
      return () => process.kill(pid, 'SIGCONT');
    },
    startWorker: async (name) => {
      const part = NODE_PARTS.find((p) => p.name === name);
      if (part === undefined) throw new Error(`there is no part ${name}`);
      extra ??= createSupervisor({ logsFolder: join(home, 'logs'), onEvent });
      await extra.start({
        name: name === 'cpu-worker' ? SECOND_WORKER : name,
        command: process.execPath,
        args: [builtEntryPath(part)],
        env: childEnvironment(config, { databaseUrl: running.databaseUrl, temporalAddress: config.temporal.address }),
        cwd: config.projectFolder,
        deathSignal: 'SIGKILL',
        stopSignal: 'SIGTERM',
        stopGraceMs: 20_000,
        readyTimeoutMs: 120_000,
        readiness: 'announcement',
      });
    },
    close,
  };
}

/** Nanoseconds since 1970, as precise as the server is. */
const timeOf = (time: { readonly seconds?: { toString: () => string } | null; readonly nanos?: number | null } | null | undefined): bigint =>
  BigInt(time?.seconds?.toString() ?? '0') * 1_000_000_000n + BigInt(time?.nanos ?? 0);

async function openWorkflows(client: Client): Promise<readonly string[]> {
  const ids: string[] = [];
  for await (const workflow of client.workflow.list({ query: 'ExecutionStatus = "Running"' })) ids.push(workflow.workflowId);
  return ids;
}

function clusterFolder(home: string): string {
  try {
    return readFileSync(`${postgresFolder(home)}.location`, 'utf8').trim();
  } catch {
    return postgresFolder(home); // it lies in the state folder
  }
}

/** Every process that was started for this state folder: by its environment, its arguments or the folder that it is in. */
function processesOf(home: string): readonly string[] {
  const folders = [home, clusterFolder(home)];
  if (!existsSync('/proc'))
    return execFileSync('ps', ['-axo', 'pid=,command='], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => folders.some((folder) => line.includes(folder)));
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .flatMap((pid) => {
      const read = (file: string): string => {
        try {
          return file === 'cwd' ? readlinkSync(join('/proc', pid, file)) : readFileSync(join('/proc', pid, file), 'utf8').replaceAll('\0', ' ');
        } catch {
          return ''; // it ended meanwhile, or is somebody else's
        }
      };
      const known = ['cmdline', 'environ', 'cwd'].some((file) => folders.some((folder) => read(file).includes(folder)));
      return known ? [`${pid} ${read('cmdline')}`] : [];
    });
}
