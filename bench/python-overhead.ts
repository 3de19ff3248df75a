import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import type { TrainJob } from '../activities/compute-job.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { prepareTraining } from '../activities/external-data.ts';
import { externalFingerprint, trainExternally } from '../activities/external-trainer.ts';
import { ensurePythonEnvironment } from '../activities/python-environment.ts';
import { packageRoot } from '../config/package-root.ts';
import { TASK_VARIABLE } from '../contracts/external-trainer.ts';
import { categorical, datetime, numeric } from '../contracts/features.ts';
import type { StageCall } from '../contracts/stages.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { cacheFolder } from './python-environment.ts';

const execute = promisify(execFile);
const SCRIPT = 'trainers/with_lightgbm.py';
const REQUIREMENTS = 'trainers/requirements.txt';
/** What the bare script should take, as the bar is stated for. */
const AIM_SECONDS = 10;
const FIRST_ROUNDS = 100;
const MOST_ROUNDS = 1_000;

/** The documented LightGBM script and its requirements, as a project has them. */
async function makeProject(folder: string): Promise<void> {
  const page = await readFile(join(packageRoot, 'docs', 'training.md'), 'utf8');
  await mkdir(join(folder, 'trainers'), { recursive: true });
  for (const [, name = '', content = ''] of page.matchAll(/^```(?:python|text) (trainers\/\S+)\n([\s\S]*?)^```$/gm))
    await writeFile(join(folder, name), content);
}

/** Real flights, a sample fixed by a hash of the row number, with whether they were late. */
async function prepareFlights(rows: number): Promise<string> {
  const path = join(cacheFolder(), 'bench', `python-overhead-v1-${String(rows)}.parquet`);
  if (existsSync(path)) return path;
  await mkdir(dirname(path), { recursive: true });
  const source = join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data', 'flights-3m.parquet');
  const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
  const connection = await instance.connect();
  try {
    const making = `${path}.${String(process.pid)}`;
    await connection.run(`
      COPY (SELECT date, distance, origin, destination, delay > 15 AS late FROM (SELECT *, row_number() OVER () AS n FROM '${source.replaceAll("'", "''")}')
        ORDER BY hash(n), n LIMIT ${String(rows)}) TO '${making.replaceAll("'", "''")}' (FORMAT parquet)`);
    await rename(making, path);
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
  return path;
}

const secondsOf = async (work: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1_000;
};

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const rows = quick ? 100_000 : 500_000;
  const repetitions = quick ? 1 : 3;
  const folder = await mkdtemp(join(tmpdir(), 'millrace-python-overhead-'));
  try {
    const projectFolder = join(folder, 'project');
    await makeProject(projectFolder);
    const flights = await prepareFlights(rows);
    const artifacts = await openArtifacts(join(folder, 'artifacts'));
    const { signal } = new AbortController();
    const deps = {
      config: { projectFolder, home: join(folder, 'home'), cacheFolder: cacheFolder(), urls: { api: 'http://127.0.0.1:7400' } },
      artifacts,
      log: () => undefined,
      // as where no token is configured: the script is lent none
      store: { tokens: { lend: () => Promise.resolve(null) } },
    } as unknown as ActivityDependencies;
    const progress = (): void => undefined;
    const jobFor = (rounds: number): TrainJob => ({
      kind: 'train',
      train: [flights],
      validation: null,
      trainer: { name: 'python', parameters: { script: SCRIPT, requirements: REQUIREMENTS, featuresFor: 'trees', parameters: { rounds } } },
      features: { date: datetime(), distance: numeric(), origin: categorical(), destination: categorical() },
      target: 'late',
      task: 'binary',
      sampleRows: null,
      validationRows: null,
      seed: 1,
      threads: availableParallelism(),
      resume: null,
      targetType: 'boolean',
      transforms: [],
      rawColumns: [
        { name: 'date', type: 'timestamp' },
        { name: 'distance', type: 'integer' },
        { name: 'origin', type: 'string' },
        { name: 'destination', type: 'string' },
        { name: 'late', type: 'boolean' },
      ],
      checkpointEveryMs: 3_000,
      rungs: null,
    });
    const call: StageCall = {
      runId: '0'.repeat(32),
      pipeline: 'bench',
      buildId: 'bench',
      stage: 'train',
      kind: 'train',
      ordinal: 0,
      pool: 'cpu',
      cache: false,
      input: {},
    };

    const { python } = await ensurePythonEnvironment({
      cacheFolder: cacheFolder(),
      projectFolder,
      requirements: REQUIREMENTS,
      python: undefined,
      signal,
      progress,
    });
    const data = join(folder, 'data');
    await mkdir(data);
    const prepared = await prepareTraining({ kind: 'prepare', job: jobFor(1), input: 'features', featuresFor: 'trees', folder: data });
    /** The script by itself, on files that are there already. */
    const bare = async (rounds: number): Promise<number> => {
      const output = await mkdtemp(join(folder, 'bare-'));
      const { seed, threads } = jobFor(rounds);
      const task = { ...prepared.data, parameters: { rounds }, seed, threads, device: 'cpu', batchShare: 1, checkpoint: output, output };
      await writeFile(join(output, 'task.json'), JSON.stringify(task));
      return secondsOf(() =>
        execute(python, [join(projectFolder, SCRIPT)], { env: { ...process.env, [TASK_VARIABLE]: join(output, 'task.json') }, maxBuffer: 1 << 26 }),
      );
    };
    /** All that the stage does: what decides its result, data, script, model, log. */
    const staged = (rounds: number): Promise<number> =>
      secondsOf(async () => {
        const job = jobFor(rounds);
        await externalFingerprint(job.trainer, { deps, signal, progress });
        const candidate = await trainExternally(job, {
          call,
          deps,
          signal,
          progress,
          device: null,
          childUsed: () => undefined,
          resume: () => Promise.resolve(undefined),
          commitCheckpoint: async (_step, state) => {
            await artifacts.putBytes(state);
          },
        });
        if ('trained' in candidate) await artifacts.putBytes(candidate.trained.onnx);
      });

    // What the interpreter reads first lies in no cache: the first run tells nothing of how long rounds take.
    await bare(1);
    const [few, more] = [await bare(FIRST_ROUNDS), quick ? 0 : await bare(3 * FIRST_ROUNDS)];
    const aim = FIRST_ROUNDS + Math.ceil(((AIM_SECONDS - few) / Math.max(more - few, 0.01)) * 2 * FIRST_ROUNDS);
    const rounds = quick ? FIRST_ROUNDS : Math.min(Math.max(FIRST_ROUNDS, aim), MOST_ROUNDS);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let repetition = 0; repetition < repetitions; repetition += 1) {
      theirs.push(await bare(rounds));
      ours.push(await staged(rounds));
    }
    const summary = summarise(ours);
    const peerValue = summarise(theirs).value;
    emit({
      bench: 'python-overhead',
      metric: 'seconds',
      variant: `${String(rows)} rows, ${String(rounds)} rounds`,
      ...summary,
      unit: 's',
      peer: 'script',
      peerValue,
      ratio: summary.value / peerValue,
      better: 'lower',
      bar: 1.1,
      ...(quick ? { quick } : {}),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'python-overhead',
  summary: 'A LightGBM script inside a train stage (features, files, script, model joined and checked, log), beside the bare script on files that are there',
  run,
};
