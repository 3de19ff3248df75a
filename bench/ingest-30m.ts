import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { type Pass, passOver, prepareFlights } from './flights-passes.ts';

/** Ten times the rows, at most eleven times the time. */
const TIMES = 10;
const TIME_BAR = 11;
const MEMORY_BAR_MIB = 2_048;
const REPETITIONS = 3;
const QUICK_ROWS = 300_000;

/** Ingest, profile and thirty expectations: the time of both passes, the greater peak of the two. */
async function wholeWay(source: { readonly path: string; readonly rows: number }, folder: string): Promise<Pass> {
  const ingested = await passOver('ingest', source.path, folder, source.rows);
  const validated = await passOver('profile+30', source.path, folder, source.rows);
  return {
    ...validated,
    seconds: ingested.seconds + validated.seconds,
    cpuSeconds: ingested.cpuSeconds + validated.cpuSeconds,
    peakMib: Math.max(ingested.peakMib, validated.peakMib),
  };
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const [small, large] = await Promise.all([mkdtemp(join(tmpdir(), 'millrace-bench-')), mkdtemp(join(tmpdir(), 'millrace-bench-'))]);
  try {
    const some = `(SELECT * FROM flights${quick ? ` LIMIT ${QUICK_ROWS}` : ''})`;
    // The same columns, with instants moved on by a second each time, so that no row stands there twice.
    const one = await prepareFlights(small, `SELECT * FROM ${some}`);
    const ten = await prepareFlights(
      large,
      `SELECT date + INTERVAL (copy) SECOND AS date, delay, distance, origin, destination FROM ${some}, (SELECT unnest(range(${TIMES})) AS copy)`,
    );
    const [ones, tens]: [Pass[], Pass[]] = [[], []];
    for (let turn = 0; turn < (quick ? 1 : REPETITIONS); turn++) {
      ones.push(await wholeWay(one, small));
      tens.push(await wholeWay(ten, large));
    }
    const [little, much] = [summarise(ones.map(({ seconds }) => seconds)), summarise(tens.map(({ seconds }) => seconds))];
    const quickly = quick ? { quick } : {};
    emit({
      bench: benchmark.name,
      metric: 'seconds',
      unit: 's',
      ...much,
      peer: `${(one.rows / 1e6).toString()}m rows`,
      peerValue: little.value,
      ratio: much.value / little.value,
      better: 'lower',
      bar: TIME_BAR,
      ...quickly,
    });
    emit({
      bench: benchmark.name,
      metric: 'peak_mib',
      unit: 'MiB',
      ...summarise(tens.map(({ peakMib }) => peakMib)),
      better: 'lower',
      bar: MEMORY_BAR_MIB,
      ...quickly,
    });
  } finally {
    await Promise.all([small, large].map((folder) => rm(folder, { recursive: true, force: true })));
  }
}

export const benchmark: Benchmark = {
  name: 'ingest-30m',
  summary: 'ingest, profile and thirty expectations of 30,000,000 flights beside 3,000,000: time and peak memory',
  run,
};
