import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
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
const ADULT = 'age workclass fnlwgt education education_num marital occupation relationship race sex gain loss hours country'.split(' ');
const ADULT_NUMBERS: ReadonlySet<string> = new Set(['age', 'fnlwgt', 'education_num', 'gain', 'loss', 'hours']);

/** What is trained on: files in `folder`, and for each column its number of codes, 0 for numbers. */
interface Data {
  readonly what: string;
  readonly folder: string;
  readonly trainRows: number;
  readonly testRows: number;
  readonly categories: readonly number[];
}

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
categories = [c for c, codes in enumerate(json.loads(sys.argv[5])) if codes > 0]
read = lambda name, rows: (np.fromfile(f"{folder}/{name}.rows.f32", np.float32).reshape(rows, -1), np.fromfile(f"{folder}/{name}.labels.u8", np.uint8))
x, y = read("train", train_rows)
started, cpu = time.perf_counter(), time.process_time()
settings = dict(objective="binary", num_leaves=31, learning_rate=0.1, num_threads=threads, verbose=-1, seed=0, deterministic=True, force_col_wise=True)
model = lgb.train(settings, lgb.Dataset(x, y, categorical_feature=categories if categories else []), 100)
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
    await writeMatrix(making, columns, trainRows, testRows);
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

/** Both orders of the cells, since each trainer reads its own; the last column is the label. */
async function writeMatrix(folder: string, columns: readonly (readonly unknown[])[], trainRows: number, testRows: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const width = columns.length - 1;
  for (const [name, first, rows] of [['train', 0, trainRows] as const, ['test', trainRows, testRows] as const]) {
    const byColumn = new Float32Array(rows * width);
    const byRow = new Float32Array(rows * width);
    for (let c = 0; c < width; c += 1) {
      const column = columns[c] ?? [];
      for (let row = 0; row < rows; row += 1) {
        const cell = column[first + row];
        const value = cell === null ? Number.NaN : Number(cell);
        byColumn[c * rows + row] = value;
        byRow[row * width + c] = value;
      }
    }
    await writeFile(join(folder, `${name}.columns.f32`), byColumn);
    await writeFile(join(folder, `${name}.rows.f32`), byRow);
    await writeFile(
      join(folder, `${name}.labels.u8`),
      Uint8Array.from({ length: rows }, (_, row) => Number(columns[width]?.[first + row])),
    );
  }
}

/** Adult as it comes, texts as codes by their order; undefined where the project has no shared data beside it. */
async function prepareAdult(): Promise<Data | undefined> {
  const shared = ['../../shared/data/adult', '../../../shared/data/adult'].map((path) => fileURLToPath(new URL(path, import.meta.url))).find(existsSync);
  if (shared === undefined) return undefined;
  const folder = join(cacheFolder(), 'bench', `train-gbdt-adult-v${DATA_VERSION}`);
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const read = (name: string, part: number): string =>
      `SELECT ${part} AS part, * FROM read_csv('${join(shared, name)}', header = false, all_varchar = true, names = [${[...ADULT, 'income'].map((c) => `'${c}'`).join(', ')}], null_padding = true)`;
    await connection.run(
      `CREATE TABLE rows AS SELECT *, row_number() OVER () AS n FROM (${read('adult-train.csv', 0)} UNION ALL ${read('adult-test.csv', 1)}) WHERE income IS NOT NULL`,
    );
    const cells = ADULT.map((c) =>
      ADULT_NUMBERS.has(c) ? `trim("${c}")::FLOAT` : `CASE WHEN trim("${c}") <> '?' THEN dense_rank() OVER (ORDER BY trim("${c}")) - 1 END::FLOAT`,
    );
    const result = await connection.runAndReadAll(`SELECT ${cells.join(', ')}, (income LIKE '%>50K%')::UTINYINT, part FROM rows ORDER BY n`);
    const columns = result.getColumns();
    const parts = columns.at(-1) ?? [];
    const trainRows = parts.filter((part) => Number(part) === 0).length;
    const data = columns.slice(0, -1);
    const categories = ADULT.map((c, at) => (ADULT_NUMBERS.has(c) ? 0 : Math.max(...(data[at] ?? []).map(Number)) + 1));
    const sizes = { trainRows, testRows: parts.length - trainRows };
    await writeMatrix(folder, data, sizes.trainRows, sizes.testRows);
    return { what: 'Adult, by categories', folder, ...sizes, categories };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

const readFit = (stdout: string): Fit => JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Fit;

/** Airports are numbered from 0. */
function airportsOf(folder: string, rows: number): number {
  const bytes = readFileSync(join(folder, 'train.columns.f32'));
  const cells = new Float32Array(bytes.buffer, bytes.byteOffset, rows * FEATURES.length);
  return cells.subarray(4 * rows).reduce((most, cell) => Math.max(most, cell), 0) + 1;
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const trainRows = quick ? 200_000 : 1_000_000;
  const testRows = quick ? 50_000 : 200_000;
  const repetitions = quick ? 1 : 3;
  const folder = await prepareData(trainRows, testRows);
  const python = await ensurePythonEnvironment('lightgbm', REQUIREMENTS);
  const source = import.meta.url.endsWith('.ts');
  const child = fileURLToPath(new URL(`./train-gbdt-child${source ? '.ts' : '.js'}`, import.meta.url));
  const airports = airportsOf(folder, trainRows);
  const flights: Data = { what: `${trainRows} rows`, folder, trainRows, testRows, categories: FEATURES.map(() => 0) };
  const adult = await prepareAdult();
  const cases: readonly (readonly [Data, number])[] = [
    [flights, 1],
    [flights, 2],
    [{ ...flights, what: `${trainRows} rows, by categories`, categories: [0, 0, 0, 0, airports, airports] }, 2],
    ...(adult === undefined ? [] : [[adult, 2] as const]),
  ];
  for (const [data, threads] of cases) {
    const sizes = [data.folder, String(data.trainRows), String(data.testRows), String(threads), JSON.stringify(data.categories)];
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
        variant: `${threads} thread${threads === 1 ? '' : 's'}, ${data.what}`,
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
    report('seconds', 'seconds', 's', 'lower', 2.5);
    report('cpuSeconds', 'cpu_seconds', 's', 'lower');
    // Within 0.002 of LightGBM's, as a ratio of its AUC.
    report('auc', 'auc', 'auc', 'higher', 1 - 0.002 / summarise(theirs.map((fit) => fit.auc)).value);
    report('peakMib', 'peak_mib', 'MiB', 'lower', 2);
  }
}

export const benchmark: Benchmark = {
  name: 'train-gbdt',
  summary:
    'Gradient boosting on 1,000,000 flights, 100 trees of 31 leaves, airports as numbers and as categories, and on Adult: time, AUC on other rows and peak memory, beside LightGBM',
  run,
};
