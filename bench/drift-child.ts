/**
 * One pass of the drift benchmark, in a process of its own so that its peak memory can be read: `drift-child MODE FOLDER THREADS`.
 * Prints one line of JSON: seconds, cpuSeconds, peakMib, columns, rows.
 *
 * Modes: `millrace` (there.parquet against here.parquet, every figure), `duckdb` (the same figures in SQL), `window` (a monitor's
 * window, from job.json: drift, quality, estimate, data quality, skew, and the decision), `small` (its first rows alone, looked at again and again
 * by the thread that is kept for that: seconds are the median's).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { compute } from '../activities/compute-job.ts';
import { measureWindow } from '../activities/measure-window.ts';
import type { MeasuredWindow, MonitorJob } from '../activities/monitor-job.ts';
import { DriftSettingsSchema } from '../contracts/drift.ts';
import { measureDrift } from '../data/drift.ts';
import { decideDrift } from '../ml/drift/decide.ts';
import { DRIFT_COLUMNS } from './drift-columns.ts';

const [mode = '', folder = '', threadsText = '2'] = process.argv.slice(2);
const threads = Number(threadsText);
const [here, there] = [join(folder, 'here.parquet'), join(folder, 'there.parquet')];

const SMALL_ROWS = 50;
const LOOKS = 30;
/** Before code is compiled for what is asked often. */
const FIRST_LOOKS = 5;

interface Pass {
  readonly columns: number;
  readonly rows: number;
  readonly seconds?: number;
}

async function byMillrace(): Promise<Pass> {
  const { columns, rows } = await measureDrift(
    { kind: 'parquet', paths: [here] },
    { kind: 'rows', rows: { kind: 'parquet', paths: [there] }, columns: DRIFT_COLUMNS },
    { threads },
  );
  return { columns: columns.length, rows };
}

/** As somebody would write it who needs the figures once; p-values left out. */
async function byDuckDb(): Promise<Pass> {
  const instance = await DuckDBInstance.create(':memory:', { threads: String(threads), memory_limit: '2GiB' });
  const connection = await instance.connect();
  let columns = 0;
  const figures = `sum((p - q) * ln(p / q)) AS psi, sum(a * a / ((a + b) * n) + b * b / ((a + b) * m)) * (any_value(n) + any_value(m)) - (any_value(n) + any_value(m)) AS chi2,
    sqrt((sum(p * ln(2 * p / (p + q))) + sum(q * ln(2 * q / (p + q)))) / 2) AS js`;
  const shares = `SELECT *, sum(a) OVER () AS n, sum(b) OVER () AS m, greatest(a, 0.5) / sum(a) OVER () AS p, greatest(b, 0.5) / sum(b) OVER () AS q FROM bins`;
  for (const { name, type } of DRIFT_COLUMNS) {
    const counted = `counted AS (SELECT v, count(*) FILTER (s = 0)::DOUBLE AS a, count(*) FILTER (s = 1)::DOUBLE AS b
      FROM (SELECT ${name} AS v, 0 AS s FROM read_parquet('${here}') UNION ALL SELECT ${name}, 1 FROM read_parquet('${there}')) GROUP BY v)`;
    const sql =
      type === 'string'
        ? `WITH ${counted}, ranked AS (SELECT *, row_number() OVER (ORDER BY b DESC, v) AS r FROM counted),
            bins AS (SELECT CASE WHEN v IS NULL THEN 99 ELSE least(r, 21) END AS bin, sum(a) AS a, sum(b) AS b FROM ranked GROUP BY bin)
          SELECT ${figures}, (SELECT list(v ORDER BY a DESC) FROM ranked WHERE b = 0) AS appeared, (SELECT list(v ORDER BY b DESC) FROM ranked WHERE a = 0) AS vanished FROM (${shares})`
        : `WITH ${counted}, sums AS (SELECT sum(a) AS n, sum(b) AS m FROM counted WHERE v IS NOT NULL),
            walked AS (SELECT v, a, b, sum(a) OVER w / n AS f, sum(b) OVER w / m AS g, lead(v) OVER w AS next FROM counted, sums WHERE v IS NOT NULL WINDOW w AS (ORDER BY v)),
            bins AS (SELECT least(ceil(g * 10 - 1e-9), 10) AS bin, sum(a) AS a, sum(b) AS b FROM walked GROUP BY bin UNION ALL SELECT 99, a, b FROM counted WHERE v IS NULL)
          SELECT ${figures}, (SELECT max(abs(f - g)) FROM walked) AS ks, (SELECT sum(abs(f - g) * (next - v)) FROM walked) AS wasserstein FROM (${shares})`;
    columns += (await connection.runAndReadAll(sql)).getRowObjects().length;
  }
  const counted = (await connection.runAndReadAll(`SELECT count(*)::INTEGER AS n FROM read_parquet('${here}')`)).getRowObjects()[0];
  connection.closeSync();
  instance.closeSync();
  return { columns, rows: Number(counted?.['n']) };
}

async function monitorWindow(): Promise<Pass> {
  const job = JSON.parse(await readFile(join(folder, 'job.json'), 'utf8')) as MonitorJob;
  const { rows, drift, quality, estimated, data, skew } = await measureWindow(job, () => undefined);
  if (drift === undefined || quality?.state !== 'judged' || estimated?.state !== 'estimated' || data?.success !== true || skew?.differing !== 0)
    throw new Error('a part of the window was not measured');
  decideDrift({ from: job.from, report: drift, past: [], settings: DriftSettingsSchema.parse({}) });
  return { columns: drift.columns.length, rows };
}

async function smallWindow(): Promise<Pass> {
  const job = JSON.parse(await readFile(join(folder, 'job.json'), 'utf8')) as MonitorJob;
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const first = async (name: string, of: MonitorJob['segments']): Promise<MonitorJob['segments']> => {
    const path = join(folder, `${name}.parquet`);
    await connection.run(`COPY (SELECT * FROM read_parquet('${of[0]?.path ?? ''}') LIMIT ${SMALL_ROWS}) TO '${path}' (FORMAT parquet)`);
    return [{ path, format: 'parquet', identity: name }];
  };
  const small: MonitorJob = { ...job, segments: await first('few', job.segments), feedback: await first('few-labels', job.feedback) };
  connection.closeSync();
  instance.closeSync();
  const { signal } = new AbortController();
  const took: number[] = [];
  let measured: MeasuredWindow | undefined;
  for (let look = 0; look < LOOKS; look++) {
    const begun = performance.now();
    measured = await compute<MeasuredWindow>(small, { signal, progress: () => undefined, log: () => undefined });
    took.push((performance.now() - begun) / 1000);
  }
  const [...sorted] = took.slice(FIRST_LOOKS).sort((a, b) => a - b);
  return { columns: measured?.drift?.columns.length ?? 0, rows: measured?.rows ?? 0, seconds: sorted[sorted.length >> 1] ?? Number.NaN };
}

const passes: Readonly<Record<string, () => Promise<Pass>>> = { millrace: byMillrace, duckdb: byDuckDb, window: monitorWindow, small: smallWindow };
const cpuBefore = process.cpuUsage();
const started = performance.now();
const pass = await passes[mode]?.();
const seconds = (performance.now() - started) / 1000;
const cpu = process.cpuUsage(cpuBefore);
console.log(JSON.stringify({ seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6, peakMib: process.resourceUsage().maxRSS / 1024, ...pass }));
