import { randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApplicationFailure, type WorkflowFailedError } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import onnxProto from 'onnx-proto';
import { afterAll, inject, vi } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import { type ErrorReport, MillraceError } from '../../contracts/errors.ts';
import type { RunProgress } from '../../contracts/run.ts';
import { floatTensor, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import { createPredictionServer, type PredictionServer } from '../../serving/server.ts';
import type { StageRecord } from '../../store/stages.ts';
import { createTestEnvironment, type TestEnvironment, type TestEnvironmentOptions, type TestRun } from '../../testing/test-environment.ts';
import { createBuildWorker } from '../../workers/hosting.ts';
import { freshDatabase } from '../support/database.ts';

/** What a test that waits for the real servers gives them, on a machine that is busy with other tests. */
export const PATIENCE_MS = 90_000;

// most of these tests make runs fail on purpose: the SDK's warnings of that would hide what is really wrong
Runtime.install({ logger: new DefaultLogger('ERROR') });

const PROJECT = fileURLToPath(new URL('./project', import.meta.url));

/** A bare ONNX file, as another tool would have written it: `y = factor · x`. */
export function multiplier(factor: number): Uint8Array {
  const { onnx } = onnxProto;
  const model = onnx.ModelProto.create({
    irVersion: 8,
    opsetImport: [{ domain: '', version: 17 }],
    graph: {
      name: 'multiplier',
      input: [valueInfo('x', ONNX_TYPE.float, 1)],
      output: [valueInfo('y', ONNX_TYPE.float, 1)],
      initializer: [floatTensor('factor', [1], [factor])],
      node: [{ opType: 'Mul', input: ['x', 'factor'], output: ['y'], name: 'times' }],
    },
  });
  return onnx.ModelProto.encode(model).finish();
}

/** Rows of which a distance over 500 is mostly late; the same ones each time. */
export function flightsCsv(rows: number, seed = 1): string {
  let state = seed;
  const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  const lines = Array.from({ length: rows }, () => {
    const distance = Math.round(random() * 1_000);
    const late = random() < (distance > 500 ? 0.9 : 0.1);
    return `${String(distance)},${random() < 0.5 ? 'A' : 'B'},${late ? 'yes' : 'no'}`;
  });
  return ['distance,carrier,late', ...lines].join('\n');
}

/** The project of the tests in a folder of its own, which a test may edit; gone when the file ends. */
export async function copyProject(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-project-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  await cp(PROJECT, folder, { recursive: true, filter: (path) => !path.includes('node_modules') });
  // as an installed project has them
  await mkdir(join(folder, 'node_modules'));
  for (const name of ['@temporalio', 'zod']) await symlink(join(packageRoot, 'node_modules', name), join(folder, 'node_modules', name));
  await mkdir(join(folder, 'models'));
  await mkdir(join(folder, 'data'));
  await writeFile(join(folder, 'models', 'double.onnx'), multiplier(2));
  await writeFile(join(folder, 'models', 'triple.onnx'), multiplier(3));
  await writeFile(join(folder, 'data', 'flights.csv'), flightsCsv(600));
  return folder;
}

/** One environment for the tests of a file: a database and a namespace of its own on the shared servers. */
export async function openEnvironment(options: TestEnvironmentOptions = {}): Promise<TestEnvironment & { readonly project: string }> {
  const project = options.project ?? (await copyProject());
  const databaseUrl = options.databaseUrl ?? (await freshDatabase());
  const env = await createTestEnvironment({ ...options, project, databaseUrl, temporalAddress: inject('temporalAddress') });
  afterAll(() => env.close());
  return { ...env, project };
}

/** A real prediction server on the environment's store; stops when the file ends. */
export async function serve(
  env: TestEnvironment,
): Promise<{ readonly url: string; readonly server: PredictionServer; readonly predict: (endpoint: string, x: number) => Promise<number> }> {
  const { store, artifacts, config } = env.deps;
  const server = createPredictionServer({
    serverId: `test-${randomBytes(4).toString('hex')}`,
    host: '127.0.0.1',
    port: 0,
    home: config.home,
    serverVersion: '0',
    routes: { listRoutes: () => store.endpoints.listRoutes() },
    registry: store.servers,
    stats: store.stats,
    artifacts,
    features: store.featureViews,
    precomputed: store.predictionSets,
    feedback: store.feedback,
    log: () => undefined,
    pollEveryMs: 200,
    drainMs: 10,
  });
  const { url } = await server.start();
  afterAll(() => server.stop());
  const predict = async (endpoint: string, x: number): Promise<number> => {
    const response = await fetch(`${url}/v2/models/${endpoint}/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'x', shape: [1], datatype: 'FP32', data: [x] }] }),
      headers: { 'content-type': 'application/json' },
    });
    const body = (await response.json()) as { outputs: { data: number[] }[] };
    return body.outputs[0]?.data[0] ?? Number.NaN;
  };
  return { url, server, predict };
}

/** The code of what a promise is refused with. */
export async function refusedWith(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  return error instanceof MillraceError ? error.code : `not refused: ${String(error)}`;
}

/** The report with which a run ended. Fails when it did not fail. */
export async function failureOf(run: Pick<TestRun, 'result'>): Promise<ErrorReport> {
  const error = await run.result().then(
    () => undefined,
    (caught: unknown) => caught as WorkflowFailedError,
  );
  const cause = error?.cause;
  if (!(cause instanceof ApplicationFailure)) throw new Error(`the run did not fail as expected: ${String(cause ?? 'it completed')}`);
  return cause.details?.[0] as ErrorReport;
}

/** Waits until the progress of the run is as wanted, and gives it. */
export async function untilProgress(run: TestRun, wanted: (progress: RunProgress) => boolean): Promise<RunProgress> {
  let last: RunProgress | undefined;
  await vi.waitUntil(
    async () => {
      last = await run.progress();
      return wanted(last);
    },
    { timeout: PATIENCE_MS, interval: 150 },
  );
  if (!last) throw new Error('no progress');
  return last;
}

export const untilGate = (run: TestRun, gate: string): Promise<RunProgress> => untilProgress(run, (progress) => progress.gates.some((g) => g.gate === gate));

/** A stage's record, by its name in the run. */
export async function stageOf(env: TestEnvironment, runId: string, name: string): Promise<StageRecord> {
  const stage = await env.deps.store.stages.find(runId, name);
  if (!stage) throw new Error(`run ${runId} has no stage ${name}`);
  return stage;
}

export const decision = (by: string, gate?: string): { readonly by: string; readonly reason: string; readonly gate?: string } => ({
  by,
  reason: `${by} looked at it`,
  ...(gate === undefined ? {} : { gate }),
});

/** A second worker beside the environment's, on another build; stops when the file ends. */
export async function hostBuild(env: TestEnvironment, buildId: string): Promise<void> {
  const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
  const worker = await createBuildWorker({ deps: env.deps, connection }, buildId);
  const running = worker.run();
  afterAll(async () => {
    worker.shutdown();
    await running;
    await connection.close();
  });
}
