import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import { summarise, type Benchmark, type BenchmarkOptions } from './figure.ts';
import { cacheFolder, ensurePythonEnvironment } from './python-environment.ts';

const execute = promisify(execFile);

const REQUIREMENTS = ['lightgbm==4.6.0', 'numpy==2.4.6', 'scipy==1.17.1', 'scikit-learn==1.9.1'];

/** Changes when the data does: the prepared files carry it in their folder's name. */
const DATA_VERSION = 1;

const FEATURES = ['hour', 'dow', 'month', 'distance', 'origin', 'destination'] as const;

interface Fit {
  readonly seconds: number;
  /** Of all threads: what other work on the machine disturbs least. */
  readonly cpuSeconds: number;
  readonly auc: number;
  readonly peakMib: number;
}

/** LightGBM as its documentation sets it up for repeatable results; fit includes its binning, as ours does. */
const LIGHTGBM_SCRIPT = `
import json, resource, sys, time
import numpy as np, lightgbm as lgb
folder, train_rows, test_rows, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
read = lambda name, rows: (np.fromfile(f"{folder}/{name}.rows.f32", np.float32).reshape(rows, -1), np.fromfile(f"{folder}/{name}.labels.u8", np.uint8))
x, y = read("train", train_rows)
started, cpu = time.perf_counter(), time.process_time()
settings = dict(objective="binary", num_leaves=31, learning_rate=0.1, num_threads=threads, verbose=-1, seed=0, deterministic=True, force_col_wise=True)
model = lgb.train(settings, lgb.Dataset(x, y), 100)
seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
from sklearn.metrics import roc_auc_score
xt, yt = read("test", test_rows)
print(json.dumps(dict(seconds=seconds, cpuSeconds=cpu_seconds, auc=roc_auc_score(yt, model.predict(xt, num_threads=threads)), peakMib=peak)))
`;

/** A sample of the real flights, fixed by a hash of the row number: delayed by more than 15 minutes, from six numbers. */
async function prepareData(trainRows: number, testRows: number): Promise<string> {
  const folder = join(cacheFolder(), 'bench', `train-gbdt-v${DATA_VERSION}-${trainRows}-${testRows}`);
  if (existsSync(folder)) return folder;
  // The package exports its entry alone; the data lies beside the folder of that.
  const source = join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data', 'flights-3m.parquet');
  const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
  const connection = await instance.connect();
  try {
    const result = await connection.runAndReadAll(`
      with flights as (select *, row_number() over () as n from '${source.replaceAll("'", "''")}'),
        airports as (select code, row_number() over (order by code) - 1 as number from (select origin as code from flights union select destination from flights))
      select hour(date)::float as hour, dayofweek(date)::float as dow, month(date)::float as month, distance::float as distance,
        o.number::float as origin, d.number::float as destination, (delay > 15)::utinyint as label
      from flights join airports o on o.code = origin join airports d on d.code = destination
      order by hash(n), n limit ${trainRows + testRows}`);
    const columns = result.getColumns();
    const making = `${folder}.${process.pid}`;
    await mkdir(making, { recursive: true });
    for (const [name, first, rows] of [['train', 0, trainRows] as const, ['test', trainRows, testRows] as const]) {
      const byColumn = new Float32Array(rows * FEATURES.length);
      const byRow = new Float32Array(rows * FEATURES.length);
      FEATURES.forEach((_, c) => {
        const column = columns[c] ?? [];
        for (let row = 0; row < rows; row += 1) {
          const value = Number(column[first + row]);
          byColumn[c * rows + row] = value;
          byRow[row * FEATURES.length + c] = value;
        }
      });
      await writeFile(join(making, `${name}.columns.f32`), byColumn);
      await writeFile(join(making, `${name}.rows.f32`), byRow);
      await writeFile(
        join(making, `${name}.labels.u8`),
        Uint8Array.from({ length: rows }, (_, row) => Number(columns[FEATURES.length]?.[first + row])),
      );
    }
    await rename(making, folder).catch(async (error: unknown) => {
      // Another run was faster.
      await rm(making, { recursive: true, force: true });
      if (!existsSync(folder)) throw error;
    });
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
  return folder;
}

const readFit = (stdout: string): Fit => JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Fit;

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const trainRows = quick ? 200_000 : 1_000_000;
  const testRows = quick ? 50_000 : 200_000;
  const repetitions = quick ? 1 : 3;
  const folder = await prepareData(trainRows, testRows);
  const python = await ensurePythonEnvironment('lightgbm', REQUIREMENTS);
  const source = import.meta.url.endsWith('.ts');
  const child = fileURLToPath(new URL(`./train-gbdt-child${source ? '.ts' : '.js'}`, import.meta.url));
  for (const threads of [1, 2]) {
    const sizes = [folder, String(trainRows), String(testRows), String(threads)];
    const ours: Fit[] = [];
    const theirs: Fit[] = [];
    for (let repetition = 0; repetition < repetitions; repetition += 1) {
      ours.push(readFit((await execute(process.execPath, [...(source ? ['--import', 'tsx'] : []), child, ...sizes])).stdout));
      theirs.push(readFit((await execute(python, ['-c', LIGHTGBM_SCRIPT, ...sizes])).stdout));
    }
    const report = (metric: keyof Fit, name: string, unit: string, better: 'lower' | 'higher', bar?: number): void => {
      const summary = summarise(ours.map((fit) => fit[metric]));
      const peerValue = summarise(theirs.map((fit) => fit[metric])).value;
      emit({
        bench: 'train-gbdt',
        metric: name,
        variant: `${threads} thread${threads === 1 ? '' : 's'}, ${trainRows} rows`,
        ...summary,
        unit,
        peer: 'lightgbm',
        peerValue,
        ratio: summary.value / peerValue,
        better,
        ...(bar === undefined ? {} : { bar }),
        ...(quick ? { quick } : {}),
      });
    };
    report('seconds', 'seconds', 's', 'lower', 4);
    report('cpuSeconds', 'cpu_seconds', 's', 'lower');
    // Within 0.003 of LightGBM's, as a ratio of its AUC.
    report('auc', 'auc', 'auc', 'higher', 1 - 0.003 / summarise(theirs.map((fit) => fit.auc)).value);
    report('peakMib', 'peak_mib', 'MiB', 'lower', 2);
  }
}

export const benchmark: Benchmark = {
  name: 'train-gbdt',
  summary: 'Gradient boosting on 1,000,000 flights, 100 trees of 31 leaves: time, AUC on 200,000 others and peak memory, beside LightGBM',
  run,
};
