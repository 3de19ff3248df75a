/**
 * One pass for the benchmark of point-in-time joins, in a process of its own so that its peak memory can be read:
 * `point-in-time-child MODE FOLDER THREADS`. Prints one line of JSON: seconds, cpuSeconds, peakMib, path.
 *
 * Modes: `prepare` (snapshots of FOLDER/rows.parquet and FOLDER/labels.parquet; their manifests' ids and files go to
 * FOLDER/snapshots.json), `value` and `windows` (by Millrace), `duckdb-value` and `duckdb-windows` (by DuckDB's SQL alone on the
 * same files). Each writes a Parquet file; Millrace's is an artifact with its manifest.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import type { DatasetRef } from '../contracts/references.ts';
import { datasetFiles, loadManifest } from '../data/dataset.ts';
import { joinTrainingSet } from '../data/feature-views.ts';
import { ingestSource } from '../data/ingest.ts';
import { textLiteral } from '../data/sql-text.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { featureView, over } from '../workflows/feature-view.ts';

const [mode = '', folder = '', threadsText = '2'] = process.argv.slice(2);
const threads = Number(threadsText);

interface Snapshots {
  readonly rows: { readonly ref: DatasetRef; readonly path: string };
  readonly labels: { readonly ref: DatasetRef; readonly path: string };
}

const readSnapshots = async (): Promise<Snapshots> => JSON.parse(await readFile(join(folder, 'snapshots.json'), 'utf8')) as Snapshots;

async function prepare(): Promise<string> {
  const artifacts = await openArtifacts(folder);
  const ingest = async (name: string): Promise<{ ref: DatasetRef; path: string }> => {
    const path = join(folder, `${name}.parquet`);
    const { ref, manifest } = await ingestSource({ source: { format: 'parquet', path }, name, artifacts, projectFolder: folder, threads });
    return { ref, path: await artifacts.pathOf(manifest.files[0]?.sha256 ?? '') };
  };
  const snapshots: Snapshots = { rows: await ingest('rows'), labels: await ingest('labels') };
  await writeFile(join(folder, 'snapshots.json'), JSON.stringify(snapshots));
  return snapshots.labels.path;
}

/** Reading the manifests, the join, the snapshot and its manifest. Each file's content is held against its name first, as a stage does. */
async function byMillrace(windows: boolean): Promise<string> {
  const { rows, labels } = await readSnapshots();
  const artifacts = await openArtifacts(folder);
  const view = featureView({
    name: 'spending',
    entity: 'customer',
    eventTime: 'at',
    features: {
      amount: 'amount',
      ...(windows ? { mean_7d: over('7 days', 'mean', 'amount'), count_7d: over('7 days', 'count', 'amount'), sum_7d: over('7 days', 'sum', 'amount') } : {}),
    },
  });
  const { manifest } = await joinTrainingSet({
    labels: await loadManifest(artifacts, labels.ref),
    labelsId: labels.ref.id,
    eventTime: 'at',
    views: [{ view, manifest: await loadManifest(artifacts, rows.ref), id: rows.ref.id }],
    artifacts,
    threads,
  });
  return (await datasetFiles(artifacts, manifest))[0]?.path ?? '';
}

/** As somebody would write it who needs it once. */
async function byDuckDb(windows: boolean): Promise<string> {
  const { rows, labels } = await readSnapshots();
  const out = join(folder, 'by-duckdb.parquet');
  const instance = await DuckDBInstance.create(':memory:', { threads: String(threads), memory_limit: '2GiB', temp_directory: join(folder, 'spill') });
  const connection = await instance.connect();
  const r = `read_parquet(${textLiteral(rows.path)})`;
  const l = `(SELECT *, file_row_number AS n FROM read_parquet(${textLiteral(labels.path)}, file_row_number = true))`;
  const joined = `SELECT l.*, r.amount FROM ${l} l ASOF LEFT JOIN ${r} r ON l.customer = r.customer AND l."at" >= r."at"`;
  const frames = `SELECT * FROM (
    SELECT n, avg(amount) OVER w AS mean_7d, count(amount) OVER w AS count_7d, sum(amount) OVER w AS sum_7d
    FROM (SELECT customer, "at", amount, NULL AS n FROM ${r} UNION ALL SELECT customer, "at", NULL, n FROM ${l})
    WINDOW w AS (PARTITION BY customer ORDER BY "at" RANGE BETWEEN INTERVAL '604799999999 microseconds' PRECEDING AND CURRENT ROW)
  ) WHERE n IS NOT NULL`;
  const query = windows ? `SELECT j.*, f.* EXCLUDE (n) FROM (${joined}) j JOIN (${frames}) f ON j.n = f.n` : joined;
  await connection.run(`COPY (${query}) TO ${textLiteral(out)} (FORMAT parquet, COMPRESSION zstd)`);
  connection.closeSync();
  instance.closeSync();
  return out;
}

const passes: Readonly<Record<string, () => Promise<string>>> = {
  prepare,
  value: () => byMillrace(false),
  windows: () => byMillrace(true),
  'duckdb-value': () => byDuckDb(false),
  'duckdb-windows': () => byDuckDb(true),
};
const cpuBefore = process.cpuUsage();
const started = performance.now();
const path = (await passes[mode]?.()) ?? '';
const seconds = (performance.now() - started) / 1000;
const cpu = process.cpuUsage(cpuBefore);
const peakMib = process.resourceUsage().maxRSS / 1024;
console.log(JSON.stringify({ seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6, peakMib, path }));
