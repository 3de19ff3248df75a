import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import { DRIFT_COLUMNS } from './drift-columns.ts';
import { prepareWindow } from './drift-window.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { flightsPath } from './flights-passes.ts';
import { ensurePythonEnvironment } from './python-environment.ts';

const execute = promisify(execFile);
const REPETITIONS = 5;
const THREADS = 2;
const ROWS = 500_000;
const QUICK_ROWS = 100_000;
const WINDOW_ROWS = 1_000_000;
const QUICK_WINDOW_ROWS = 200_000;
const SMALL_WINDOW_ROWS = 50;
/** Thirty times faster. */
const EVIDENTLY_BAR = 1 / 30;
const DUCKDB_BAR = 2;
const WINDOW_SECONDS_BAR = 5;
const WINDOW_MEMORY_BAR_MIB = 1_024;
const REQUIREMENTS = ['evidently==0.7.21', 'pandas==2.3.3', 'pyarrow==22.0.0'];

/** The preset's defaults. The time is that of reading both files and of the report, without the imports. */
const EVIDENTLY_SCRIPT = `
import sys, json, time, resource
import pandas as pd
from evidently import Report, Dataset, DataDefinition
from evidently.presets import DataDriftPreset
definition = DataDefinition(numerical_columns=["delay", "distance", "hour", "dow"], categorical_columns=["origin", "destination"])
cpu, start = time.process_time(), time.perf_counter()
here, there = pd.read_parquet(sys.argv[1] + "/here.parquet"), pd.read_parquet(sys.argv[1] + "/there.parquet")
result = Report([DataDriftPreset()]).run(Dataset.from_pandas(here, data_definition=definition), Dataset.from_pandas(there, data_definition=definition))
found = json.loads(result.json())
seconds = time.perf_counter() - start
columns = len([m for m in found["metrics"] if "ValueDrift" in json.dumps(m)])
print(json.dumps({"seconds": seconds, "cpuSeconds": time.process_time() - cpu, "peakMib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "rows": len(here), "columns": columns}))
`;

interface Pass {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakMib: number;
  readonly rows: number;
  readonly columns: number;
}

async function prepare(folder: string, rows: number, windowRows: number): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { memory_limit: '2GiB' });
  const connection = await instance.connect();
  const flights = `SELECT delay, distance, hour(date) AS hour, dayofweek(date) AS dow, origin, destination FROM '${flightsPath()}'`;
  await connection.run(`COPY (${flights} LIMIT ${rows}) TO '${join(folder, 'there.parquet')}' (FORMAT parquet)`);
  await connection.run(`COPY (${flights} LIMIT ${rows} OFFSET ${2 * rows}) TO '${join(folder, 'here.parquet')}' (FORMAT parquet)`);
  connection.closeSync();
  instance.closeSync();
  await prepareWindow(folder, flights, windowRows);
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  try {
    const python = await ensurePythonEnvironment('evidently', REQUIREMENTS);
    const [rows, windowRows] = quick ? [QUICK_ROWS, QUICK_WINDOW_ROWS] : [ROWS, WINDOW_ROWS];
    await prepare(folder, rows, windowRows);
    const child = fileURLToPath(new URL(`./drift-child${extname(import.meta.url)}`, import.meta.url));
    const read = (stdout: string, wanted: Pick<Pass, 'rows' | 'columns'>): Pass => {
      const pass = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Pass;
      if (pass.rows !== wanted.rows || pass.columns !== wanted.columns) throw new Error(`a pass gave ${pass.rows} rows and ${pass.columns} columns`);
      return pass;
    };
    const passOver = async (mode: string, wanted: Pick<Pass, 'rows' | 'columns'>): Promise<Pass> =>
      read((await execute(process.execPath, [...process.execArgv, child, mode, folder, String(THREADS)])).stdout, wanted);
    const all = { rows, columns: DRIFT_COLUMNS.length };
    const passes: Record<'millrace' | 'duckdb' | 'evidently' | 'window' | 'small', Pass[]> = { millrace: [], duckdb: [], evidently: [], window: [], small: [] };
    // taking turns, so that what else the machine does falls on all of them
    for (let turn = 0; turn < (quick ? 2 : REPETITIONS); turn++) {
      passes.millrace.push(await passOver('millrace', all));
      passes.duckdb.push(await passOver('duckdb', all));
      passes.evidently.push(read((await execute(python, ['-W', 'ignore', '-c', EVIDENTLY_SCRIPT, folder], { maxBuffer: 64 * 2 ** 20 })).stdout, all));
      passes.window.push(await passOver('window', { rows: windowRows, columns: DRIFT_COLUMNS.length + 1 }));
      passes.small.push(await passOver('small', { rows: SMALL_WINDOW_ROWS, columns: DRIFT_COLUMNS.length + 1 }));
    }
    const beside = (peer: 'duckdb' | 'evidently', metric: string, unit: string, of: (pass: Pass) => number, bar?: number): void => {
      const [ours, theirs] = [summarise(passes.millrace.map(of)), summarise(passes[peer].map(of))];
      emit({
        bench: benchmark.name,
        metric,
        variant: `rows against rows`,
        unit,
        ...ours,
        peer,
        peerValue: theirs.value,
        ratio: ours.value / theirs.value,
        better: 'lower',
        ...(bar === undefined ? {} : { bar }),
        ...(quick ? { quick } : {}),
      });
    };
    for (const [peer, bar] of [
      ['evidently', EVIDENTLY_BAR],
      ['duckdb', DUCKDB_BAR],
    ] as const) {
      beside(peer, 'seconds', 's', ({ seconds }) => seconds, bar);
      beside(peer, 'cpu_seconds', 's', ({ cpuSeconds }) => cpuSeconds);
      beside(peer, 'peak_mib', 'MiB', ({ peakMib }) => peakMib);
    }
    const ofWindow = (metric: string, unit: string, of: (pass: Pass) => number, bar: number): void => {
      emit({
        bench: benchmark.name,
        metric,
        variant: 'monitor window',
        unit,
        ...summarise(passes.window.map(of)),
        better: 'lower',
        bar,
        ...(quick ? { quick } : {}),
      });
    };
    ofWindow('seconds', 's', ({ seconds }) => seconds, WINDOW_SECONDS_BAR);
    emit({
      bench: benchmark.name,
      metric: 'look_ms',
      variant: `monitor window of ${SMALL_WINDOW_ROWS} rows`,
      unit: 'ms',
      ...summarise(passes.small.map(({ seconds }) => seconds * 1000)),
      better: 'lower',
      ...(quick ? { quick } : {}),
    });
    ofWindow('peak_mib', 'MiB', ({ peakMib }) => peakMib, WINDOW_MEMORY_BAR_MIB);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'drift',
  summary: '500,000 flights against 500,000 beside Evidently and SQL in DuckDB, and a monitor window of 1,000,000 logged predictions',
  run,
};
