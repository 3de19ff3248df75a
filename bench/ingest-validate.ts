import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';

const execute = promisify(execFile);
const THREADS = 2;
const REPETITIONS = 5;
const QUICK_ROWS = 300_000;
const RATIO_BAR = 2;

interface Pass {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakMib: number;
  readonly rows: number;
  readonly failed: number;
}

async function once(mode: 'millrace' | 'duckdb', source: string): Promise<Pass> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  // Built, this file and its child are JavaScript; run from the sources, both are TypeScript.
  const child = fileURLToPath(new URL(`./ingest-validate-child${extname(import.meta.url)}`, import.meta.url));
  try {
    const { stdout } = await execute(process.execPath, [...process.execArgv, child, mode, source, folder, String(THREADS)]);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Pass;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The first rows of the flights as a file of their own. */
async function shortened(source: string, folder: string): Promise<string> {
  const path = join(folder, 'quick.parquet');
  const instance = await DuckDBInstance.create();
  const connection = await instance.connect();
  await connection.run(`COPY (SELECT * FROM '${source.replaceAll("'", "''")}' LIMIT ${QUICK_ROWS}) TO '${path.replaceAll("'", "''")}' (FORMAT parquet)`);
  connection.closeSync();
  instance.closeSync();
  return path;
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const flights = join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data', 'flights-3m.parquet');
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  try {
    const source = quick ? await shortened(flights, folder) : flights;
    const [ours, theirs]: [Pass[], Pass[]] = [[], []];
    // Taking turns, so that what else the machine does falls on both.
    for (let turn = 0; turn < (quick ? 2 : REPETITIONS); turn++) {
      ours.push(await once('millrace', source));
      theirs.push(await once('duckdb', source));
    }
    const wrong = [...ours, ...theirs].find(({ rows, failed }) => rows !== ours[0]?.rows || failed !== 0);
    if (wrong !== undefined) throw new Error(`a pass gave ${wrong.rows} rows and ${wrong.failed} failed expectations`);
    const figure = (metric: string, unit: string, of: (pass: Pass) => number, bar?: number): void => {
      const [mine, peer] = [summarise(ours.map(of)), summarise(theirs.map(of))];
      emit({
        bench: benchmark.name,
        metric,
        unit,
        ...mine,
        peer: 'duckdb',
        peerValue: peer.value,
        ratio: mine.value / peer.value,
        better: 'lower',
        ...(bar === undefined ? {} : { bar }),
        ...(quick ? { quick } : {}),
      });
    };
    figure('seconds', 's', ({ seconds }) => seconds, RATIO_BAR);
    figure('cpu_seconds', 's', ({ cpuSeconds }) => cpuSeconds);
    figure('peak_mib', 'MiB', ({ peakMib }) => peakMib);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'ingest-validate',
  summary: '3,000,000 flights to a snapshot, a profile and ten expectations, beside DuckDB doing the same SQL alone',
  run,
};
