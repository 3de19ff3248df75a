/**
 * One pass for the benchmarks of data, in a process of its own so that its peak memory can be read:
 * `ingest-validate-child MODE SOURCE FOLDER THREADS`. Prints one line of JSON: seconds, cpuSeconds, peakMib, rows, failed.
 *
 * Modes: `ingest` (a snapshot is written, and its manifest's id to FOLDER/snapshot.json), `profile+30`, `profile+10` and `10` (of
 * that snapshot, by Millrace), `duckdb` (the figures of `profile+30`, by DuckDB's SQL alone on the same file).
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import type { Expectations } from '../contracts/expectations.ts';
import type { DatasetRef } from '../contracts/references.ts';
import { datasetFiles, loadManifest } from '../data/dataset.ts';
import { checkExpectations } from '../data/expectations.ts';
import { ingestSource } from '../data/ingest.ts';
import { validateDataset } from '../data/validate.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { tenExpectations, thirtyExpectations } from './flights-expectations.ts';

const [mode = '', source = '', folder = '', threadsText = '2'] = process.argv.slice(2);
const threads = Number(threadsText);
const snapshotFile = join(folder, 'snapshot.json');

interface Snapshot {
  readonly ref: DatasetRef;
  readonly path: string;
  readonly airports: readonly string[];
}
interface Pass {
  readonly rows: number;
  readonly failed: number;
}

async function ingest(): Promise<Pass> {
  const artifacts = await openArtifacts(folder);
  const { ref, manifest } = await ingestSource({ source: { format: 'parquet', path: source }, name: 'flights', artifacts, projectFolder: folder, threads });
  const snapshot = { ref, path: await artifacts.pathOf(manifest.files[0]?.sha256 ?? '') };
  await writeFile(snapshotFile, JSON.stringify(snapshot));
  return { rows: ref.rows, failed: 0 };
}

const readSnapshot = async (): Promise<Snapshot> => {
  const airports = JSON.parse(await readFile(join(folder, 'airports.json'), 'utf8')) as string[];
  return { ...(JSON.parse(await readFile(snapshotFile, 'utf8')) as Omit<Snapshot, 'airports'>), airports };
};

async function byMillrace(expectationsOf: (airports: readonly string[]) => Expectations, profiled: boolean): Promise<Pass> {
  const { ref, airports } = await readSnapshot();
  const artifacts = await openArtifacts(folder);
  const expectations = expectationsOf(airports);
  const manifest = await loadManifest(artifacts, ref);
  const validation = profiled
    ? (await validateDataset({ manifest, id: ref.id, expectations, artifacts, threads })).validation
    : await checkExpectations(await datasetFiles(artifacts, manifest), manifest.columns, expectations, { threads });
  return { rows: validation.rows, failed: validation.results.filter(({ success }) => !success).length };
}

/** The same figures in plain SQL, as somebody would write it who needs them once. */
async function byDuckDb(): Promise<Pass> {
  const { path, airports } = await readSnapshot();
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
  const file = `read_parquet(${text(path)})`;
  const instance = await DuckDBInstance.create(':memory:', { threads: String(threads), memory_limit: '2GiB' });
  const connection = await instance.connect();
  const rowOf = async (sql: string): Promise<Record<string, unknown>> => (await connection.runAndReadAll(sql)).getRowObjects()[0] ?? {};
  const shares = '[0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]';
  const aggregates = [
    'count(*) AS rows',
    ...['date', 'delay', 'distance', 'origin', 'destination'].flatMap((name) => [`count(${name}) AS n_${name}`, `approx_count_distinct(${name})`]),
    ...['delay', 'distance'].flatMap((name) => [
      `min(${name}) AS min_${name}`,
      `max(${name}) AS max_${name}`,
      `avg(${name}) AS mean_${name}`,
      `stddev_samp(${name}) AS sd_${name}`,
      `quantile_disc(${name}, ${shares}) AS q_${name}`,
    ]),
    'epoch_ms(min(date)) AS min_date, epoch_ms(max(date)) AS max_date',
    ...['origin', 'destination'].flatMap((name) => [`min(length(${name}))`, `avg(length(${name}))`, `max(length(${name}))`]),
  ];
  const profile = await rowOf(`SELECT ${aggregates.join(', ')} FROM ${file}`);
  for (const name of ['origin', 'destination'])
    await connection.runAndReadAll(`SELECT ${name}, count(*) AS n FROM ${file} GROUP BY ALL ORDER BY n DESC, ${name} LIMIT 100`);
  for (const [name, value] of [
    ['delay', 'delay'],
    ['distance', 'distance'],
    ['date', 'epoch_ms(date)'],
  ] as const) {
    const [min, max] = [Number(profile[`min_${name}`]), Number(profile[`max_${name}`])];
    await connection.runAndReadAll(
      `SELECT least(19, floor((${value} - ${min}) / ${(max - min) / 20})) AS bin, count(*) FROM ${file} GROUP BY ALL ORDER BY bin`,
    );
  }
  const known = airports.map(text).join(', ');
  const types = (await connection.runAndReadAll(`DESCRIBE SELECT * FROM ${file}`)).getRowObjects().map((row) => String(row['column_type']));
  const checked = await rowOf(`SELECT count(*) FILTER (WHERE date IS NULL) AS a1, count(*) FILTER (WHERE date < '2001-01-01' OR date > '2001-07-02') AS a2,
    count(*) FILTER (WHERE delay IS NULL) AS b1, count(*) FILTER (WHERE delay < -1500 OR delay > 3000) AS b2, (avg(delay) NOT BETWEEN 0 AND 20)::INTEGER AS b3,
    (sum(delay) NOT BETWEEN 0 AND 1e11)::INTEGER AS b4, (stddev_samp(delay) NOT BETWEEN 10 AND 60)::INTEGER AS b5,
    (quantile_disc(delay, 0.5) NOT BETWEEN -10 AND 10)::INTEGER AS b6, (count(delay) < count(*))::INTEGER AS b7,
    count(*) FILTER (WHERE distance IS NULL) AS c1, count(*) FILTER (WHERE distance < 1 OR distance > 6000) AS c2,
    (avg(distance) NOT BETWEEN 400 AND 1200)::INTEGER AS c3, (quantile_disc(distance, 0.99) NOT BETWEEN 1500 AND 3500)::INTEGER AS c4,
    (count(DISTINCT distance) NOT BETWEEN 100 AND 5000)::INTEGER AS c5,
    count(*) FILTER (WHERE origin IS NULL) AS d1, count(*) FILTER (WHERE NOT regexp_matches(origin, '^[A-Z]{3}$')) AS d2,
    count(*) FILTER (WHERE length(origin) <> 3) AS d3, count(*) FILTER (WHERE origin NOT IN (SELECT unnest([${known}]))) AS d4,
    (count(DISTINCT origin) NOT BETWEEN 100 AND 400)::INTEGER AS d5,
    count(*) FILTER (WHERE destination IS NULL) AS e1, count(*) FILTER (WHERE NOT regexp_matches(destination, '^[A-Z]{3}$')) AS e2,
    count(*) FILTER (WHERE length(destination) <> 3) AS e3, count(*) FILTER (WHERE destination NOT IN (SELECT unnest([${known}]))) AS e4,
    (count(*) < 1)::INTEGER AS f1, count(*) FILTER (WHERE NOT distance > 0) AS f2 FROM ${file}`);
  connection.closeSync();
  instance.closeSync();
  const failed = Object.values(checked).filter((value) => Number(value) > 0).length + (types.join() === 'TIMESTAMP,BIGINT,BIGINT,VARCHAR,VARCHAR' ? 0 : 1);
  return { rows: Number(profile['rows']), failed };
}

const passes: Readonly<Record<string, () => Promise<Pass>>> = {
  ingest,
  'profile+30': () => byMillrace(thirtyExpectations, true),
  'profile+10': () => byMillrace(tenExpectations, true),
  '10': () => byMillrace(tenExpectations, false),
  duckdb: byDuckDb,
};
const cpuBefore = process.cpuUsage();
const started = performance.now();
const pass = await passes[mode]?.();
const seconds = (performance.now() - started) / 1000;
const cpu = process.cpuUsage(cpuBefore);
console.log(JSON.stringify({ seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6, peakMib: process.resourceUsage().maxRSS / 1024, ...pass }));
