import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { checked, type Pass, passOver, prepareFlights } from './flights-passes.ts';
import { ensurePythonEnvironment } from './python-environment.ts';

const execute = promisify(execFile);
const REPETITIONS = 5;
const QUICK_ROWS = 300_000;
/** Profile and thirty expectations, against the same figures by DuckDB's SQL alone. */
const DUCKDB_BAR = 1.5;
/** Ten expectations, against the same ten by Great Expectations: twenty times faster. */
const GREAT_EXPECTATIONS_BAR = 0.05;
const REQUIREMENTS = ['great-expectations==1.24.1', 'pandas==2.3.3', 'pyarrow==22.0.0'];

/** The time is that of the work: reading the snapshot and checking it, without the imports and without building the suite. */
const GREAT_EXPECTATIONS_SCRIPT = `
import sys, json, time, resource, datetime as dt
import pandas as pd
import great_expectations as gx, great_expectations.expectations as E
path, rows, airports = sys.argv[1], int(sys.argv[2]), json.load(open(sys.argv[3]))
ctx = gx.get_context(mode="ephemeral")
ctx.variables.progress_bars = {"globally": False}
batch = ctx.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
suite = ctx.suites.add(gx.ExpectationSuite(name="s"))
for c in ("date", "delay", "distance"): suite.add_expectation(E.ExpectColumnValuesToNotBeNull(column=c))
suite.add_expectation(E.ExpectColumnValuesToBeBetween(column="delay", min_value=-2000, max_value=2000))
suite.add_expectation(E.ExpectColumnValuesToBeBetween(column="distance", min_value=0, max_value=5000))
suite.add_expectation(E.ExpectColumnValuesToBeBetween(column="date", min_value=dt.datetime(2001, 1, 1), max_value=dt.datetime(2002, 1, 1)))
for c in ("origin", "destination"): suite.add_expectation(E.ExpectColumnValuesToBeInSet(column=c, value_set=airports))
suite.add_expectation(E.ExpectTableRowCountToBeBetween(min_value=1, max_value=100_000_000))
suite.add_expectation(E.ExpectColumnMeanToBeBetween(column="distance", min_value=100, max_value=2000))
validation = ctx.validation_definitions.add(gx.ValidationDefinition(name="v", data=batch, suite=suite))
cpu, start = time.process_time(), time.perf_counter()
frame = pd.read_parquet(path)
result = validation.run(result_format="SUMMARY", batch_parameters={"dataframe": frame})
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "cpuSeconds": time.process_time() - cpu, "peakMib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  "rows": len(frame), "failed": len([r for r in result.results if not r.success])}))
`;

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  try {
    const python = await ensurePythonEnvironment('great-expectations', REQUIREMENTS);
    const { path, rows } = await prepareFlights(folder, quick ? `SELECT * FROM flights LIMIT ${QUICK_ROWS}` : 'SELECT * FROM flights');
    const ingested = await passOver('ingest', path, folder, rows);
    const snapshot = (JSON.parse(await readFile(join(folder, 'snapshot.json'), 'utf8')) as { path: string }).path;
    const greatExpectations = async (): Promise<Pass> => {
      const { stdout } = await execute(python, ['-c', GREAT_EXPECTATIONS_SCRIPT, snapshot, String(rows), join(folder, 'airports.json')]);
      return checked(JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Pass, 'great_expectations', rows);
    };
    const passes: Record<'thirty' | 'duckdb' | 'ten' | 'tenProfiled' | 'greatExpectations', Pass[]> = {
      thirty: [],
      duckdb: [],
      ten: [],
      tenProfiled: [],
      greatExpectations: [],
    };
    // Taking turns, so that what else the machine does falls on all of them.
    for (let turn = 0; turn < (quick ? 2 : REPETITIONS); turn++) {
      passes.thirty.push(await passOver('profile+30', path, folder, rows));
      passes.duckdb.push(await passOver('duckdb', path, folder, rows));
      passes.ten.push(await passOver('10', path, folder, rows));
      passes.tenProfiled.push(await passOver('profile+10', path, folder, rows));
      passes.greatExpectations.push(await greatExpectations());
    }
    const figure = (
      metric: string,
      unit: string,
      of: (pass: Pass) => number,
      { ours, theirs, peer, variant, bar }: { ours: readonly Pass[]; theirs: readonly Pass[]; peer: string; variant: string; bar?: number },
    ): void => {
      const [mine, other] = [summarise(ours.map(of)), summarise(theirs.map(of))];
      emit({
        bench: benchmark.name,
        metric,
        variant,
        unit,
        ...mine,
        peer,
        peerValue: other.value,
        ratio: mine.value / other.value,
        better: 'lower',
        ...(bar === undefined ? {} : { bar }),
        ...(quick ? { quick } : {}),
      });
    };
    const beside = [
      { ours: passes.thirty, theirs: passes.duckdb, peer: 'duckdb', variant: 'profile + 30', bar: DUCKDB_BAR },
      { ours: passes.ten, theirs: passes.greatExpectations, peer: 'great_expectations', variant: 'the same 10', bar: GREAT_EXPECTATIONS_BAR },
      // what a user of ours gets who asks for the ten: Great Expectations makes no profile
      { ours: passes.tenProfiled, theirs: passes.greatExpectations, peer: 'great_expectations', variant: 'profile + 10' },
    ];
    for (const { bar, ...pair } of beside) {
      figure('seconds', 's', ({ seconds }) => seconds, bar === undefined ? pair : { ...pair, bar });
      figure('cpu_seconds', 's', ({ cpuSeconds }) => cpuSeconds, pair);
      figure('peak_mib', 'MiB', ({ peakMib }) => peakMib, pair);
    }
    emit({
      bench: benchmark.name,
      metric: 'seconds',
      variant: 'ingest',
      unit: 's',
      ...summarise([ingested.seconds]),
      better: 'lower',
      ...(quick ? { quick } : {}),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'ingest-validate',
  summary: '3,000,000 flights: a profile and thirty expectations beside the same SQL in DuckDB, ten of them beside Great Expectations',
  run,
};
