import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import onnxProto from 'onnx-proto';
import { afterAll } from 'vitest';
import { type ExternallyTrained, trainExternally } from '../../activities/external-trainer.ts';
import type { TrainJob } from '../../activities/compute-job.ts';
import type { ActivityDependencies } from '../../activities/dependencies.ts';
import type { DeviceLease } from '../../contracts/devices.ts';
import type { StageCall, TrainerSpec } from '../../contracts/stages.ts';
import { categorical, numeric } from '../../contracts/features.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { writeColumns } from '../../data/write-columns.ts';
import { createRandom } from '../../ml/random.ts';
import { floatTensor, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import { openArtifacts } from '../../store/artifacts.ts';

/** A project folder, a store and rows for trainings by other programs, without servers. Gone when the test file ends. */
export async function openTraining(given?: string) {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-external-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const project = given ?? join(folder, 'project');
  const home = join(folder, 'home');
  await mkdir(join(project, 'trainers'), { recursive: true });
  const artifacts = await openArtifacts(join(folder, 'artifacts'));
  const logged: string[] = [];
  const progress: { readonly fraction: number | null; readonly message: string }[] = [];
  const used: { readonly cpuSeconds: number; readonly peakMib: number }[] = [];
  let checkpoint: { readonly step: number; readonly state: Uint8Array } | undefined;

  const rows = 400;
  const train = join(folder, 'train.parquet');
  await writeRows(train, rows, 1);
  const validation = join(folder, 'validation.parquet');
  await writeRows(validation, 100, 2);

  const job = (trainer: TrainerSpec, changes: Partial<TrainJob> = {}): TrainJob => ({
    kind: 'train',
    train: [train],
    validation: [validation],
    trainer,
    features: { distance: numeric(), carrier: categorical({ minCount: 1 }) },
    target: 'late',
    task: 'auto',
    sampleRows: null,
    validationRows: null,
    seed: 5,
    threads: 1,
    resume: null,
    targetType: 'string',
    transforms: [],
    rawColumns: [
      { name: 'distance', type: 'number' },
      { name: 'carrier', type: 'string' },
      { name: 'late', type: 'string' },
    ],
    checkpointEveryMs: 1_000,
    rungs: null,
    ...changes,
  });
  const call = (stallAfterMs?: number): StageCall => ({
    runId: '0'.repeat(32),
    pipeline: 'test',
    buildId: 'test',
    stage: 'train',
    kind: 'train',
    ordinal: 0,
    pool: 'cpu',
    cache: false,
    input: {},
    ...(stallAfterMs === undefined ? {} : { stallAfterMs }),
  });
  const deps = {
    config: {
      projectFolder: project,
      home,
      cacheFolder: process.env['MILLRACE_CACHE'] ?? join(process.env['HOME'] ?? '', '.cache', 'millrace'),
      urls: { api: 'http://127.0.0.1:7400' },
    },
    artifacts,
    store: { tokens: { lend: () => Promise.resolve(null) } },
    log: (level: string, message: string, details?: unknown) => logged.push(`${level} ${message} ${JSON.stringify(details)}`),
  } as unknown as ActivityDependencies;
  const context = (options: { readonly signal?: AbortSignal; readonly stallAfterMs?: number; readonly device?: DeviceLease } = {}) => ({
    call: call(options.stallAfterMs),
    deps,
    signal: options.signal ?? new AbortController().signal,
    progress: (fraction: number | null, message: string) => void progress.push({ fraction, message }),
    device: options.device ?? null,
    childUsed: (of: { readonly cpuSeconds: number; readonly peakMib: number }) => void used.push(of),
    resume: () => Promise.resolve(checkpoint?.state),
    commitCheckpoint: (step: number, state: Uint8Array) => {
      checkpoint = { step, state };
      return Promise.resolve();
    },
  });
  return {
    folder,
    project,
    home,
    artifacts,
    deps,
    logged,
    progress,
    used,
    job,
    context,
    checkpoint: () => checkpoint,
    forgetCheckpoint: () => (checkpoint = undefined),
    /** Trains in a process of its own, which a test may kill; what it commits is taken over by `takeCheckpoint`. */
    startWorker: (trainer: TrainerSpec): ChildProcess => {
      const given = { job: job(trainer), config: deps.config, call: call(), artifacts: artifacts.root, checkpoint: join(folder, 'checkpoint.json') };
      return spawn(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('./external-worker.ts', import.meta.url)), JSON.stringify(given)], {
        stdio: 'ignore',
      });
    },
    takeCheckpoint: async (): Promise<number | undefined> => {
      const text = await readFile(join(folder, 'checkpoint.json'), 'utf8').catch(() => undefined);
      if (text === undefined) return undefined;
      const { step, state } = JSON.parse(text) as { readonly step: number; readonly state: string };
      checkpoint = { step, state: Buffer.from(state, 'base64') };
      return step;
    },
    script: (name: string, code: string) => writeFile(join(project, 'trainers', name), code),
    train: async (
      trainer: TrainerSpec,
      options: {
        readonly signal?: AbortSignal;
        readonly stallAfterMs?: number;
        readonly batchShare?: number;
        readonly device?: DeviceLease;
        readonly job?: Partial<TrainJob>;
      } = {},
    ): Promise<ExternallyTrained> => {
      const trained = await trainExternally(job(trainer, options.job), context(options), options.batchShare);
      if ('stoppedAt' in trained) throw new Error(`stopped at ${String(trained.stoppedAt)}`);
      return trained;
    },
    /** A trial, with what it takes to go on. */
    trial: (trainer: TrainerSpec, rungs: NonNullable<TrainJob['rungs']>) => trainExternally(job(trainer, { rungs }), context()),
    /** Files of attempts that are not gone. */
    leftFiles: async () => readdir(join(home, 'programs')).catch(() => []),
  };
}

async function writeRows(path: string, rows: number, seed: number): Promise<void> {
  const random = createRandom(seed);
  const distance = Float64Array.from({ length: rows }, () => random.below(1000));
  const carrier = Int32Array.from({ length: rows }, () => random.below(3));
  const late = Int32Array.from(distance, (miles, row) => (miles / 1000 + (carrier[row] === 1 ? 0.5 : 0) + random.normal() / 5 > 0.7 ? 1 : 0));
  const minutes = Float64Array.from(distance, (miles, row) => miles / 10 + (carrier[row] ?? 0));
  await writeColumns(path, rows, [
    { name: 'distance', kind: 'float64', values: distance },
    { name: 'carrier', kind: 'string', codes: carrier, dictionary: ['AA', 'Zürich Air', 'UA'] },
    { name: 'late', kind: 'string', codes: late, dictionary: ['no', 'yes'] },
    { name: 'minutes', kind: 'float64', values: minutes },
  ]);
}

/** `sigmoid(first feature)` as another tool would write it: FLOAT [N, columns] → FLOAT [N, 1]. */
export function sigmoidOfFirst(columns: number, last = 'Sigmoid'): Uint8Array {
  const { onnx } = onnxProto;
  return onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [{ domain: '', version: 13 }],
    graph: {
      name: 'made elsewhere',
      input: [valueInfo('x', ONNX_TYPE.float, columns)],
      output: [valueInfo('p', ONNX_TYPE.float, 1)],
      initializer: [
        floatTensor(
          'w',
          [columns, 1],
          Array.from({ length: columns }, (_, i) => (i === 0 ? 1 : 0)),
        ),
      ],
      node: [
        { opType: 'MatMul', input: ['x', 'w'], output: ['z'], name: 'times' },
        { opType: last, input: ['z'], output: ['p'], name: 'last' },
      ],
    },
  }).finish();
}

/** Processes whose command line or environment holds the text. */
export function processesWith(text: string): readonly string[] {
  const listed = execFileSync('ps', ['axeww', '-o', 'pid=,args='], { encoding: 'utf8', maxBuffer: 1 << 26 });
  return listed.split('\n').filter((line) => line.includes(text) && !line.includes('ps axeww'));
}

/** The error that a promise is refused with. */
export async function refusal(work: Promise<unknown>): Promise<MillraceError> {
  const error: unknown = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (error instanceof MillraceError) return error;
  throw new Error(`not refused as expected: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
}
