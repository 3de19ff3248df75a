/**
 * Many simulated days of one endpoint on Temporal's time-skipping server: requests and a monitor every hour, a program that asks for retrainings,
 * retrainings, rollouts, and workers that are killed.
 *
 * Invariants:
 * 1. The workflows are the real ones (endpoint, monitor, retraining, a pipeline's runs), the store is a real Postgres, workers are processes of
 *    their own, a prediction server answers the requests. Simulated is the time, what is asked, and the schedule: a workflow with a timer an hour.
 * 2. Two workers of each kind run; one is killed with SIGKILL at moments drawn by seed, and another one is started in its place.
 * 3. What is found out at the end is read from the store, from the workflows, and from the histories; not from what was meant to happen.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, cp, mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, type Connection, type WorkflowService } from '@temporalio/client';
import { tsToMs } from '@temporalio/common/lib/time.js';
import { NativeConnection, Worker } from '@temporalio/worker';
import type { MonitorWindowInput, MonitorWindowResult } from '../activities/types.ts';
import { loadConfig } from '../config/config.ts';
import { packageRoot } from '../config/package-root.ts';
import type { EndpointState } from '../contracts/endpoint.ts';
import { MillraceError } from '../contracts/errors.ts';
import { endpointWorkflowId, retrainingWorkflowId, SEARCH_ATTRIBUTES, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { PredictionRecord } from '../contracts/routes.ts';
import { MonitorInputSchema } from '../contracts/stages.ts';
import { createRandom } from '../ml/random.ts';
import { createPredictionServer } from '../serving/server.ts';
import { nodeProgram } from '../stack/node-program.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { CHAMPION_ALIAS } from '../store/models.ts';
import { openStore, type Store } from '../store/store.ts';
import { buildProject } from '../workers/project-build.ts';
import type { HourActivities, SimulatedHours } from './simulated-hours.ts';
import { forgetMemories, passTimeOuts, type TestServer, workerIdentity } from './simulated-deaths.ts';
import { createWorld, type World } from './simulated-world.ts';
import { connectToTestServer, startTimeSkippingServer, type TestService } from './time-skipping-server.ts';

const NAME = 'nightly';
const HOUR_MS = 3_600_000;
const NAMESPACE = 'default';
const HOURS_QUEUE = 'simulated-hours';
const DRIVER = 'simulated-hours';
const PROJECT = join(packageRoot, 'bench', 'simulated-project');
const ROLES = ['workflows', 'activities'] as const;
const WORKERS_A_ROLE = 2;
/** An hour's last request, before its end: a window ends a second before it is looked at. */
const LAST_REQUEST_MS = 5_000;
/** After that many hours more everything must have come to rest. */
const MOST_EXTRA_HOURS = 24 * 14;
const OPEN_FATES: ReadonlySet<string> = new Set(['waiting', 'running']);
const KEYWORD_LIST = 7;

export interface SimulatedDaysOptions {
  readonly days: number;
  readonly seed: number;
  /** Of a database with nothing in it. */
  readonly databaseUrl: string;
  /** Workers that are killed, about. */
  readonly deaths: number;
  /** As many as the cool-down lets begin, about. */
  readonly retrainings: number;
}

/** A long-lived workflow's histories, one after the other. Sizes are those of the events as JSON, which is more than what Temporal counts. */
export interface KeptHistory {
  readonly workflowId: string;
  readonly executions: number;
  readonly mostEvents: number;
  readonly mostBytes: number;
}

export interface SimulatedDaysResult {
  /** From the first hour to the last, and to rest. */
  readonly seconds: number;
  readonly hours: number;
  /** Hours until nothing was under way any more, beyond those asked for. */
  readonly extraHours: number;
  /** Monitors that had requests enough, those of them that found a drift, and those that asked for a retraining. */
  readonly windows: { readonly measured: number; readonly drifted: number; readonly asked: number };
  readonly requests: { readonly asked: number; readonly failed: number };
  readonly deaths: Readonly<Record<(typeof ROLES)[number], number>>;
  readonly triggers: {
    /** By the program and by the monitor. */
    readonly sent: number;
    /** Entries of the ledger with a final fate. */
    readonly recorded: number;
    /** Sent, and not in the ledger once with a final fate. */
    readonly lost: readonly string[];
    /** In the ledger, and never sent, or twice. */
    readonly invented: readonly string[];
    /** Counted wrongly as to how often they were sent. */
    readonly miscounted: readonly string[];
    readonly fates: Readonly<Record<string, number>>;
  };
  readonly retrainings: Readonly<Record<string, number>>;
  readonly rollouts: Readonly<Record<string, number>>;
  /** Who serves: by the store, by the endpoint's workflow, by the model's alias, by the last run that went well, by a request. */
  readonly champions: readonly (number | null)[];
  readonly challengers: number;
  readonly histories: readonly KeptHistory[];
}

/** @throws what the servers and the file system throw, and MillraceError INTERNAL when the days do not come to rest */
export async function simulateDays(options: SimulatedDaysOptions): Promise<SimulatedDaysResult> {
  const closing: (() => Promise<unknown>)[] = [];
  try {
    return await simulate(options, closing);
  } finally {
    for (const step of closing.reverse()) await step();
  }
}

async function simulate(
  { days, seed, databaseUrl, deaths, retrainings }: SimulatedDaysOptions,
  closing: (() => Promise<unknown>)[],
): Promise<SimulatedDaysResult> {
  const hours = days * 24;
  const server = await startTimeSkippingServer();
  closing.push(() => server.stop());
  const folder = await mkdtemp(join(tmpdir(), 'millrace-days-'));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  const project = await copyProject(folder);
  const env = {
    ...process.env,
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: server.address,
    TEMPORAL_NAMESPACE: NAMESPACE,
    MILLRACE_HOME: join(folder, 'home'),
  };
  const config = loadConfig({ cwd: project, env, settings: {} });
  const store = openStore({ databaseUrl, poolSize: 4 });
  closing.push(() => store.close());
  await store.migrate();
  const artifacts = await openArtifacts(config.artifacts.folder);
  const build = await buildProject({ config, store, artifacts, log: () => undefined });
  const { connection, time } = await connectToTestServer(server.address);
  closing.push(() => connection.close());
  // where all workflows only wait, time would run ahead to the next thing that waits: until the hours begin it stands
  await time.lockTimeSkipping({});
  await connection.operatorService.addSearchAttributes({
    namespace: NAMESPACE,
    searchAttributes: Object.fromEntries(SEARCH_ATTRIBUTES.map((name) => [name, KEYWORD_LIST])),
  });
  const client = new Client({ connection, namespace: NAMESPACE });
  const url = await servePredictions({ store, artifacts, folder, closing });

  const world = createWorld({
    seed,
    hours,
    requestsAnHour: 40,
    trainingRows: 300,
    movesEveryHours: Math.max(36, hours / 12),
    asksEveryHours: 12,
    twiceEvery: 10,
  });
  const beganMs = tsToMs((await time.getCurrentTime({})).time);
  const monitor: MonitorWindowInput = {
    ...MonitorInputSchema.parse({
      endpoint: NAME,
      everyMs: HOUR_MS,
      leastRows: 30,
      quality: false,
      estimate: false,
      drift: { leastRows: 30 },
      retrainOn: { drift: 'calibrated', windows: 2 },
    }),
    pipeline: NAME,
  };
  const hourly = createHours({ world, hours, beganMs, project, home: config.home, url, store, client, time, monitor });
  const testServer: TestServer = { connection, time, namespace: NAMESPACE };
  const crew = createCrew({
    program: [...nodeProgram('simulated-days-process', import.meta.url)],
    args: [project, build.id],
    env,
    closing,
    beforeDeath: () => forgetMemories(testServer),
  });
  await crew.start();
  for (const { name, retraining } of build.pipelines)
    await client.workflow.signalWithStart('retraining', {
      workflowId: retrainingWorkflowId(name),
      taskQueue: WORKFLOW_QUEUE,
      args: [name],
      signal: 'defined',
      signalArgs: [{ ...retraining, coolDownMs: Math.round((hours / retrainings) * HOUR_MS) }],
    });
  await hostHours(server.address, hourly.activities, closing);

  const started = performance.now();
  const input: SimulatedHours = { beganMs, hour: 0 };
  const driver = await client.workflow.start('simulatedHours', { workflowId: DRIVER, taskQueue: HOURS_QUEUE, args: [input] });
  await time.unlockTimeSkipping({});
  const ended = new AbortController();
  const killer = kill({ crew, server: testServer, hourly, hours, deaths, seed, over: ended.signal });
  const restHour = await (driver.result() as Promise<number>).finally(() => {
    ended.abort();
  });
  await killer;
  const seconds = (performance.now() - started) / 1_000;
  const windows = hourly.windows();
  const found = await lookAtTheEnd({ store, client, connection, url, world, hours, asked: windows.asked });
  return {
    seconds,
    hours,
    extraHours: restHour - hours,
    windows,
    requests: hourly.requests(),
    deaths: crew.deaths(),
    ...found,
  };
}

/** A folder of its own, as an installed project has it, with the training data of the first hour. */
async function copyProject(folder: string): Promise<string> {
  const project = join(folder, 'project');
  await cp(PROJECT, project, { recursive: true, filter: (path) => !path.includes('node_modules') });
  await mkdir(join(project, 'node_modules'));
  for (const name of ['@temporalio', 'zod']) await symlink(join(packageRoot, 'node_modules', name), join(project, 'node_modules', name));
  await mkdir(join(project, 'data'));
  return project;
}

async function servePredictions(given: {
  readonly store: Store;
  readonly artifacts: Awaited<ReturnType<typeof openArtifacts>>;
  readonly folder: string;
  readonly closing: (() => Promise<unknown>)[];
}): Promise<string> {
  const { store, artifacts } = given;
  const server = createPredictionServer({
    serverId: 'simulated',
    host: '127.0.0.1',
    port: 0,
    // its own log is of real time
    home: join(given.folder, 'serving'),
    serverVersion: '0',
    routes: { listRoutes: () => store.endpoints.listRoutes() },
    registry: store.servers,
    stats: store.stats,
    artifacts,
    log: () => undefined,
    pollEveryMs: 200,
    drainMs: 10,
  });
  const { url } = await server.start();
  given.closing.push(() => server.stop());
  return url;
}

interface Hours {
  readonly activities: HourActivities;
  /** The hour that is over last. */
  readonly hour: () => number;
  readonly requests: () => { readonly asked: number; readonly failed: number };
  readonly windows: () => SimulatedDaysResult['windows'];
}

/** What happens in an hour: the endpoint is asked, its log is written, training data move on, a program asks, a monitor looks. */
function createHours(given: {
  readonly world: World;
  readonly hours: number;
  readonly beganMs: number;
  readonly project: string;
  readonly home: string;
  readonly url: string;
  readonly store: Store;
  readonly client: Client;
  readonly time: TestService;
  readonly monitor: MonitorWindowInput;
}): Hours {
  const { world, hours, store } = given;
  const { workflow } = given.client;
  const controller = workflow.getHandle(retrainingWorkflowId(NAME));
  const monitorId = (hour: number): string => `monitor/${NAME}-${String(hour)}`;
  const seen = new Map<number, MonitorWindowResult>();
  const moves = new Set([0, ...world.moves]);
  const counts = { asked: 0, failed: 0 };
  let passed = -1;

  /** The server's real answers, in its log's form, dated by the simulated clock. */
  const ask = async (hour: number, endsMs: number): Promise<void> => {
    const rows = world.requests(hour);
    const reply = await fetch(`${given.url}/predict/${NAME}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ rows }),
    });
    const answer = (await reply.json()) as {
      readonly requestId: string;
      readonly model: string;
      readonly version: number;
      readonly predictions: readonly { readonly probabilities: Readonly<Record<string, number>> }[];
    };
    if (reply.status === 404) return;
    counts.asked += 1;
    if (reply.status !== 200) {
      counts.failed += 1;
      return;
    }
    const { requestId, model, version } = answer;
    const everyMs = (HOUR_MS - LAST_REQUEST_MS) / rows.length;
    const lines = rows.map(
      (inputs, row): PredictionRecord => ({
        requestId,
        row,
        at: new Date(Math.floor(endsMs - HOUR_MS + row * everyMs)).toISOString(),
        model,
        version,
        challenger: false,
        inputs: { ...inputs },
        output: Object.values(answer.predictions[row]?.probabilities ?? {}),
        latencyMs: 1,
      }),
    );
    const folder = join(given.home, 'predictions', NAME);
    await mkdir(folder, { recursive: true });
    const file = join(folder, `${new Date(endsMs - 1).toISOString().slice(0, 10)}T00-simulated.jsonl`);
    await appendFile(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    await utimes(file, endsMs / 1_000, endsMs / 1_000);
  };
  const isAtRest = async (): Promise<boolean> =>
    (await store.retraining.list({ pipeline: NAME, limit: 1_000 })).every(({ fate }) => !OPEN_FATES.has(fate)) &&
    (await store.runs.list({ pipeline: NAME, limit: 1_000 })).every(({ status }) => status !== 'running' && status !== 'waiting');

  return {
    hour: () => passed,
    requests: () => ({ ...counts }),
    windows: () => {
      const results = [...seen.values()];
      return {
        measured: results.filter(({ verdict }) => verdict === 'steady' || verdict === 'drifted').length,
        drifted: results.filter(({ verdict }) => verdict === 'drifted').length,
        asked: results.filter(({ retrainingAsked }) => retrainingAsked).length,
      };
    },
    activities: {
      async hourPasses({ hour, endsMs }) {
        if (hour > 0) seen.set(hour - 1, (await workflow.getHandle(monitorId(hour - 1)).result()) as MonitorWindowResult);
        if (hour >= hours && (await isAtRest())) {
          await given.time.lockTimeSkipping({});
          return { isOver: true };
        }
        if (hour > hours + MOST_EXTRA_HOURS) throw new MillraceError('INTERNAL', 'The simulated days do not come to rest.');
        if (hour > passed) {
          passed = hour;
          if (moves.has(hour)) {
            const draft = join(given.project, 'data', 'now.csv.draft');
            await writeFile(draft, world.trainingCsv(hour));
            await rename(draft, join(given.project, 'data', 'now.csv'));
          }
          await ask(hour, endsMs);
          const asks = world.asks(hour);
          for (let time = 0; time < (asks?.times ?? 0); time++)
            await controller.signal('retrain', { reason: 'a program asks', source: 'program', key: asks?.key });
          await workflow.start('monitor', { workflowId: monitorId(hour), taskQueue: WORKFLOW_QUEUE, args: [given.monitor] });
        }
        return { isOver: false };
      },
    },
  };
}

/** The schedule's and the world's own worker: in a real stack they are no part of Millrace's workers. */
async function hostHours(address: string, activities: HourActivities, closing: (() => Promise<unknown>)[]): Promise<void> {
  const connection = await NativeConnection.connect({ address });
  closing.push(() => connection.close());
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = await Worker.create({
    connection,
    namespace: NAMESPACE,
    taskQueue: HOURS_QUEUE,
    workflowsPath: fileURLToPath(new URL(`./simulated-hours.${extension}`, import.meta.url)),
    activities: { ...activities },
  });
  const running = worker.run();
  closing.push(async () => {
    worker.shutdown();
    await running;
  });
}

interface Crew {
  readonly start: () => Promise<void>;
  /** Kills a worker; another one starts in its place. The identity of the dead one; null where it had ended by itself. */
  readonly kill: (role: (typeof ROLES)[number]) => Promise<string | null>;
  readonly deaths: () => Record<(typeof ROLES)[number], number>;
}

function createCrew(given: {
  readonly program: readonly string[];
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly closing: (() => Promise<unknown>)[];
  /** Of a worker of workflows, which stands still. */
  readonly beforeDeath: () => Promise<void>;
}): Crew {
  const workers: Record<(typeof ROLES)[number], Promise<ChildProcess>[]> = { workflows: [], activities: [] };
  const deaths = { workflows: 0, activities: 0 };
  let isOver = false;
  const start = async (role: (typeof ROLES)[number]): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [...given.program, role, ...given.args], { cwd: packageRoot, env: given.env, stdio: ['ignore', 'pipe', 'inherit'] });
    const [ready] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => [null])]);
    if (ready === null && !isOver) throw new MillraceError('INTERNAL', `A worker of ${role} ended before it was ready.`);
    return child;
  };
  const end = async (child: ChildProcess): Promise<NodeJS.Signals | null> => {
    if (child.exitCode !== null || child.signalCode !== null) return null;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
    return child.signalCode;
  };
  given.closing.push(async () => {
    isOver = true;
    for (const worker of ROLES.flatMap((role) => workers[role])) await worker.then(end, () => null);
  });
  return {
    async start() {
      for (const role of ROLES) for (let at = 0; at < WORKERS_A_ROLE; at++) workers[role].push(start(role));
      await Promise.all(ROLES.flatMap((role) => workers[role]));
    },
    async kill(role) {
      const oldest = await workers[role].shift();
      if (oldest !== undefined && role === 'workflows') {
        // it takes no more work while it is forgotten
        oldest.kill('SIGSTOP');
        await given.beforeDeath();
      }
      const wasKilled = oldest !== undefined && (await end(oldest)) === 'SIGKILL';
      const next = start(role);
      next.catch(() => undefined);
      workers[role].push(next);
      if (!wasKilled) return null;
      deaths[role] += 1;
      return workerIdentity(role, oldest.pid);
    },
    deaths: () => ({ ...deaths }),
  };
}

/** Kills workers, and lets the time pass in which the server finds that they are dead. */
async function kill(given: {
  readonly crew: Crew;
  readonly server: TestServer;
  readonly hourly: Hours;
  readonly hours: number;
  readonly deaths: number;
  readonly seed: number;
  readonly over: AbortSignal;
}): Promise<void> {
  const { crew, hourly, hours, over } = given;
  const random = createRandom(given.seed);
  const gap = hours / given.deaths;
  for (let due = gap * random.next(); !over.aborted; ) {
    // wherever in its hour it is
    await sleep(10 + random.below(60), undefined, { signal: over }).catch(() => undefined);
    if (hourly.hour() < due || hourly.hour() >= hours) continue;
    due += gap * (0.5 + random.next());
    const dead = await crew.kill(ROLES[random.below(ROLES.length)] ?? 'workflows');
    if (dead !== null) await passTimeOuts(given.server, dead);
  }
}

async function lookAtTheEnd(given: {
  readonly store: Store;
  readonly client: Client;
  readonly connection: Connection;
  readonly url: string;
  readonly world: World;
  readonly hours: number;
  readonly asked: number;
}): Promise<Omit<SimulatedDaysResult, 'seconds' | 'hours' | 'extraHours' | 'windows' | 'requests' | 'deaths'>> {
  const { store, client, world } = given;
  const [ledger, runs, rollouts, route, alias] = await Promise.all([
    store.retraining.list({ pipeline: NAME, limit: 1_000 }),
    store.runs.list({ pipeline: NAME, limit: 1_000 }),
    store.rollouts.list({ endpoint: NAME, limit: 1_000 }),
    store.endpoints.route(NAME),
    store.models.alias(NAME, CHAMPION_ALIAS),
  ]);
  const sent = Array.from({ length: given.hours }, (_, hour) => world.asks(hour)).flatMap((asks) => asks ?? []);
  const byKey = grouped(ledger, ({ triggerKey }) => triggerKey ?? '');
  const state = await client.workflow.getHandle(endpointWorkflowId(NAME)).query<EndpointState>('state');
  const [lastGood] = runs.filter(({ status }) => status === 'completed');
  const [brought] = lastGood === undefined ? [] : await store.models.versionsOfRun(lastGood.id);
  const reply = await fetch(`${given.url}/predict/${NAME}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ rows: world.requests(0).slice(0, 1) }),
  });
  const answered = (await reply.json()) as { readonly version?: number };
  const monitored = ledger.filter(({ source }) => source === `monitor/${NAME}`);
  const keys = new Set(sent.map(({ key }) => key));
  const histories: KeptHistory[] = [];
  for (const workflowId of [DRIVER, endpointWorkflowId(NAME), retrainingWorkflowId(NAME), ...new Set(runs.flatMap((run) => run.workflowId ?? []))])
    histories.push(await historyOf(given.connection, workflowId));
  return {
    triggers: {
      sent: sent.length + given.asked,
      recorded: ledger.filter(({ fate }) => !OPEN_FATES.has(fate)).length,
      lost: [
        ...sent.filter(({ key }) => !byKey.get(key)?.some(({ fate }) => !OPEN_FATES.has(fate))).map(({ key }) => key),
        ...Array.from({ length: Math.max(0, given.asked - monitored.length) }, () => `monitor/${NAME}`),
      ],
      invented: [
        ...[...byKey].filter(([key, entries]) => entries.length > 1 || key === '').map(([key]) => key),
        ...ledger.filter(({ source, triggerKey }) => source !== `monitor/${NAME}` && !keys.has(triggerKey ?? '')).map(({ triggerKey }) => triggerKey ?? ''),
        ...Array.from({ length: Math.max(0, monitored.length - given.asked) }, () => `monitor/${NAME}`),
      ],
      miscounted: sent.filter(({ key, times }) => byKey.get(key)?.[0]?.times !== times).map(({ key }) => key),
      fates: countBy(ledger, ({ fate }) => fate),
    },
    retrainings: countBy(runs, ({ status }) => status),
    rollouts: countBy(rollouts, ({ status }) => status),
    champions: [
      route?.champion.version ?? null,
      state.route?.champion.version ?? null,
      alias?.version ?? null,
      brought?.version ?? null,
      answered.version ?? null,
    ],
    challengers: [route?.challenger, state.route?.challenger, state.rollout].filter((one) => one != null).length,
    histories,
  };
}

function grouped<T>(items: readonly T[], of: (item: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(of(item), [...(groups.get(of(item)) ?? []), item]);
  return groups;
}

const countBy = <T>(items: readonly T[], of: (item: T) => string): Record<string, number> =>
  Object.fromEntries([...grouped(items, of)].map(([key, group]) => [key, group.length]));

type GetHistoryResponse = Awaited<ReturnType<WorkflowService['getWorkflowExecutionHistory']>>;

/** All executions of a workflow, from the newest back to the first. */
async function historyOf(connection: Connection, workflowId: string): Promise<KeptHistory> {
  let [executions, mostEvents, mostBytes] = [0, 0, 0];
  let runId: string | undefined = '';
  while (runId !== undefined) {
    const execution: { workflowId: string; runId: string } = { workflowId, runId };
    const { history }: GetHistoryResponse = await connection.workflowService.getWorkflowExecutionHistory({ namespace: NAMESPACE, execution });
    const events = history?.events ?? [];
    executions += 1;
    mostEvents = Math.max(mostEvents, events.length);
    mostBytes = Math.max(mostBytes, JSON.stringify(history).length);
    runId = events[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId || undefined;
  }
  return { workflowId, executions, mostEvents, mostBytes };
}
