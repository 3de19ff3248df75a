import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import { textLiteral } from '../data/sql-text.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { ensurePythonEnvironment } from './python-environment.ts';

const execute = promisify(execFile);
const REPETITIONS = 3;
const THREADS = 2;
const SECONDS_BAR = 20;
const MEMORY_BAR_MIB = 2_048;
const REQUIREMENTS = ['pandas==2.3.3', 'pyarrow==22.0.0'];

/** Windows by the differences of cumulative sums: `merge_asof` at the label's instant, and seven days before. */
const PANDAS_SCRIPT = `
import sys, json, time, resource
import pandas as pd
mode, folder = sys.argv[1], sys.argv[2]
snapshots = json.load(open(folder + "/snapshots.json"))
cpu, start = time.process_time(), time.perf_counter()
rows = pd.read_parquet(snapshots["rows"]["path"]).sort_values("at", kind="stable")
labels = pd.read_parquet(snapshots["labels"]["path"])
labels["n"] = range(len(labels))
labels = labels.sort_values("at", kind="stable")
if mode == "windows":
    rows["c"] = rows.groupby("customer").cumcount() + 1
    rows["s"] = rows.groupby("customer")["amount"].cumsum()
out = pd.merge_asof(labels, rows, on="at", by="customer")
if mode == "windows":
    before = labels[["n", "customer", "at"]].assign(at=(labels["at"] - pd.Timedelta(days=7)).astype(labels["at"].dtype))
    before = pd.merge_asof(before, rows[["customer", "at", "c", "s"]], on="at", by="customer").set_index("n").reindex(out["n"]).fillna(0)
    out["count_7d"] = out["c"].fillna(0).to_numpy() - before["c"].to_numpy()
    out["sum_7d"] = out["s"].to_numpy() - before["s"].to_numpy()
    out["mean_7d"] = out["sum_7d"] / out["count_7d"]
    out = out.drop(columns=["c", "s"])
path = folder + "/by-pandas.parquet"
out.sort_values("n").drop(columns=["n"]).to_parquet(path, compression="zstd")
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "cpuSeconds": time.process_time() - cpu, "peakMib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "path": path}))
`;

interface Pass {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakMib: number;
  readonly path: string;
}
type Case = 'value' | 'windows';

/** A year of spending by 100 rows a customer, and labels at other instants of it. */
async function writeSources(folder: string, rows: number, labels: number): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { memory_limit: '2GiB' });
  const connection = await instance.connect();
  const draw = (salt: number, below: number): string => `CAST((hash(i * 8 + ${String(salt)}) >> 11) % ${String(below)} AS BIGINT)`;
  const at = (salt: number): string => `make_timestamp(1704067200000000 + ${draw(salt, 365 * 86_400)} * 1000000) AS at`;
  const customers = rows / 100;
  const write = (name: string, select: string, count: number): Promise<unknown> =>
    connection.run(`COPY (SELECT ${select} FROM range(${String(count)}) r(i)) TO ${textLiteral(join(folder, `${name}.parquet`))} (FORMAT parquet)`);
  await write('rows', `${draw(1, customers)} AS customer, ${at(2)}, ${draw(3, 100_000)} / 100.0::DOUBLE AS amount`, rows);
  await write('labels', `${draw(5, customers)} AS customer, ${at(6)}, ${draw(7, 2)} AS label`, labels);
  connection.closeSync();
  instance.closeSync();
}

/** What all have to find alike: rows, rows with a value, and the rows that windows counted. */
async function contentOf(path: string, kind: Case): Promise<string> {
  const instance = await DuckDBInstance.create(':memory:', { memory_limit: '1GiB' });
  const connection = await instance.connect();
  const counted = kind === 'windows' ? ', sum(count_7d)::BIGINT AS counted, round(sum(sum_7d) / 1000)::BIGINT AS spent' : '';
  const [row] = (
    await connection.runAndReadAll(`SELECT count(*) AS rows, count(amount) AS matched${counted} FROM read_parquet(${textLiteral(path)})`)
  ).getRowObjects();
  connection.closeSync();
  instance.closeSync();
  return Object.entries(row ?? {})
    .map(([name, value]) => `${name} ${String(value)}`)
    .join(', ');
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  try {
    const python = await ensurePythonEnvironment('point-in-time', REQUIREMENTS);
    await writeSources(folder, quick ? 1_000_000 : 10_000_000, quick ? 100_000 : 1_000_000);
    const lastLine = (stdout: string): Pass => JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Pass;
    // Built, this file and its child are JavaScript; run from the sources, both are TypeScript.
    const child = fileURLToPath(new URL(`./point-in-time-child${extname(import.meta.url)}`, import.meta.url));
    const inProcess = async (mode: string): Promise<Pass> =>
      lastLine((await execute(process.execPath, [...process.execArgv, child, mode, folder, String(THREADS)])).stdout);
    const inPandas = async (kind: Case): Promise<Pass> => lastLine((await execute(python, ['-c', PANDAS_SCRIPT, kind, folder])).stdout);
    await inProcess('prepare');
    for (const kind of ['value', 'windows'] as const) {
      const passes: Record<'millrace' | 'duckdb' | 'pandas', Pass[]> = { millrace: [], duckdb: [], pandas: [] };
      // Taking turns, so that what else the machine does falls on all of them.
      for (let turn = 0; turn < (quick ? 2 : REPETITIONS); turn++) {
        passes.millrace.push(await inProcess(kind));
        passes.duckdb.push(await inProcess(`duckdb-${kind}`));
        passes.pandas.push(await inPandas(kind));
        const found = await Promise.all(Object.values(passes).map((list) => contentOf(list.at(-1)?.path ?? '', kind)));
        if (new Set(found).size !== 1) throw new Error(`the joins differ: ${found.join('; ')}`);
      }
      const variant = kind === 'value' ? 'one value' : 'value, 3 windows';
      const common = { bench: benchmark.name, better: 'lower', ...(quick ? { quick } : {}) } as const;
      const measures = [
        ['seconds', 's', ({ seconds }: Pass) => seconds, SECONDS_BAR],
        ['cpu_seconds', 's', ({ cpuSeconds }: Pass) => cpuSeconds, undefined],
        ['peak_mib', 'MiB', ({ peakMib }: Pass) => peakMib, MEMORY_BAR_MIB],
      ] as const;
      for (const [metric, unit, of, bar] of measures) {
        const mine = summarise(passes.millrace.map(of));
        emit({ ...common, metric, variant, unit, ...mine, ...(bar === undefined ? {} : { bar }) });
        for (const peer of ['duckdb', 'pandas'] as const) {
          const peerValue = summarise(passes[peer].map(of)).value;
          emit({ ...common, metric, variant, unit, ...mine, peer, peerValue, ratio: mine.value / peerValue });
        }
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'point-in-time',
  summary: '1,000,000 labels with the features of 10,000,000 rows as of their instants, beside DuckDB and pandas',
  run,
};
