/**
 * One pass for the benchmark `ingest-validate`, in a process of its own so that its peak memory can be read:
 * `ingest-validate-child millrace|duckdb SOURCE FOLDER THREADS`. Prints one line of JSON: seconds, cpuSeconds, peakMib, rows, failed.
 */
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import {
  between,
  columnsExist,
  dateBetween,
  distinctBetween,
  expectations,
  lengthBetween,
  matches,
  meanBetween,
  notNull,
  quantileBetween,
} from '../contracts/expectations.ts';
import { call, col, set } from '../contracts/row-transforms.ts';
import { ingestSource } from '../data/ingest.ts';
import { validateDataset } from '../data/validate.ts';
import { openArtifacts } from '../store/artifacts.ts';

const [mode = '', source = '', folder = '', threadsText = '2'] = process.argv.slice(2);
const threads = Number(threadsText);
const COLUMNS = ['date', 'delay', 'distance', 'origin', 'destination'];

interface Pass {
  readonly rows: number;
  readonly failed: number;
}

const TEN = expectations({
  delay: [notNull(), between(-1500, 3000), meanBetween(0, 20), quantileBetween(0.5, -10, 10)],
  distance: [between(1, 6000)],
  origin: [matches(/^[A-Z]{3}$/), lengthBetween(3, 3), distinctBetween(100, 400)],
  date: [dateBetween('2001-01-01', '2001-07-01')],
  table: [columnsExist(COLUMNS)],
});

async function byMillrace(): Promise<Pass> {
  const artifacts = await openArtifacts(folder);
  const { ref, manifest } = await ingestSource({
    source: { format: 'parquet', path: source },
    name: 'flights',
    transforms: [set('delayed', call('greater', col('delay'), 15))],
    artifacts,
    projectFolder: folder,
    threads,
  });
  const { validation } = await validateDataset({ manifest, id: ref.id, expectations: TEN, artifacts, threads });
  return { rows: ref.rows, failed: validation.results.filter(({ success }) => !success).length };
}

/** The same figures in plain SQL, as somebody would write it who needs them once. */
async function byDuckDb(): Promise<Pass> {
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
  const snapshot = text(join(folder, 'plain.parquet'));
  const instance = await DuckDBInstance.create(':memory:', { threads: String(threads), memory_limit: '2GiB' });
  const connection = await instance.connect();
  const rowOf = async (sql: string): Promise<Record<string, unknown>> => (await connection.runAndReadAll(sql)).getRowObjects()[0] ?? {};
  await connection.run(`COPY (SELECT *, delay > 15 AS delayed FROM ${text(source)}) TO ${snapshot} (FORMAT parquet, COMPRESSION zstd)`);
  const shares = '[0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]';
  const numbers = ['delay', 'distance', 'delayed::INTEGER'];
  const aggregates = [
    'count(*) AS rows',
    ...[...COLUMNS, 'delayed'].flatMap((name) => [`count(${name})`, `approx_count_distinct(${name})`]),
    ...numbers.flatMap((name) => [
      `min(${name}) AS min_${name.split(':')[0] ?? ''}`,
      `max(${name}) AS max_${name.split(':')[0] ?? ''}`,
      `avg(${name})`,
      `stddev_samp(${name})`,
      `quantile_disc(${name}, ${shares})`,
    ]),
    'epoch_ms(min(date)) AS min_date, epoch_ms(max(date)) AS max_date',
    ...['origin', 'destination'].flatMap((name) => [`min(length(${name}))`, `avg(length(${name}))`, `max(length(${name}))`]),
  ];
  const profile = await rowOf(`SELECT ${aggregates.join(', ')} FROM ${snapshot}`);
  for (const name of ['origin', 'destination'])
    await connection.runAndReadAll(`SELECT ${name}, count(*) AS n FROM ${snapshot} GROUP BY ALL ORDER BY n DESC, ${name} LIMIT 100`);
  for (const [name, value] of [
    ['delay', 'delay'],
    ['distance', 'distance'],
    ['delayed', 'delayed::INTEGER'],
    ['date', 'epoch_ms(date)'],
  ] as const) {
    const [min, max] = [Number(profile[`min_${name}`]), Number(profile[`max_${name}`])];
    await connection.runAndReadAll(
      `SELECT least(19, floor((${value} - ${min}) / ${(max - min) / 20})) AS bin, count(*) FROM ${snapshot} GROUP BY ALL ORDER BY bin`,
    );
  }
  const checked = await rowOf(`SELECT count(*) FILTER (WHERE delay IS NULL) AS a, count(*) FILTER (WHERE delay < -1500 OR delay > 3000) AS b,
    (avg(delay) NOT BETWEEN 0 AND 20)::INTEGER AS c, (quantile_disc(delay, 0.5) NOT BETWEEN -10 AND 10)::INTEGER AS d,
    count(*) FILTER (WHERE distance < 1 OR distance > 6000) AS e, count(*) FILTER (WHERE NOT regexp_matches(origin, '^[A-Z]{3}$')) AS f,
    count(*) FILTER (WHERE length(origin) <> 3) AS g, (count(DISTINCT origin) NOT BETWEEN 100 AND 400)::INTEGER AS h,
    count(*) FILTER (WHERE date < '2001-01-01' OR date > '2001-07-01') AS i FROM ${snapshot}`);
  connection.closeSync();
  instance.closeSync();
  return { rows: Number(profile['rows']), failed: Object.values(checked).filter((value) => Number(value) > 0).length };
}

const cpuBefore = process.cpuUsage();
const started = performance.now();
const pass = mode === 'millrace' ? await byMillrace() : await byDuckDb();
const seconds = (performance.now() - started) / 1000;
const cpu = process.cpuUsage(cpuBefore);
console.log(JSON.stringify({ seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6, peakMib: process.resourceUsage().maxRSS / 1024, ...pass }));
