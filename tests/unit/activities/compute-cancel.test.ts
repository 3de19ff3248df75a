/** A stage that is cancelled at any moment ends alone: not the process that runs it. */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { PredictJob } from '../../../activities/predict-job.ts';
import { packageRoot } from '../../../config/package-root.ts';
import { datasetFiles } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { createArtifacts } from '../../../store/artifacts.ts';
import { FLIGHT_SIGNATURE, flightModel } from '../../support/serving-fixture.ts';

const ROWS = 60_000;
const CANCELS = 16;

let folder: string;
let job: PredictJob;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-compute-cancel-'));
  const artifacts = createArtifacts({ root: join(folder, 'artifacts') });
  await mkdir(join(folder, 'tmp'));
  await writeFile(join(folder, 'model.onnx'), flightModel(0));
  const source = join(folder, 'rows.parquet');
  await withDuckDb({}, (db) =>
    db.run(`COPY (SELECT i AS id, (i % 100) / 50.0 AS distance, (i % 11) / 10.0 AS seats, 'other ' || (i % 6000) AS origin,
      TIMESTAMP '2001-01-01' + INTERVAL (i) MINUTE AS departed FROM range(${String(ROWS)}) t(i)) TO '${source}' (FORMAT parquet)`),
  );
  const { manifest } = await ingestSource({ source: { format: 'parquet', path: source }, name: 'rows', artifacts, projectFolder: folder });
  job = {
    kind: 'predict',
    files: await datasetFiles(artifacts, manifest),
    columns: manifest.columns,
    transforms: [],
    hashKey: 'a key',
    onnx: join(folder, 'model.onnx'),
    signature: FLIGHT_SIGNATURE,
    kept: ['id'],
    prefix: '',
    fileRows: 1_000,
    threads: 1,
    gpu: null,
    artifactsFolder: artifacts.root,
    resume: null,
  };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('reading, scoring and writing are cancelled at moments from the first to the last, and the process lives', async () => {
  const program = `
    const { compute } = await import(${JSON.stringify(pathToFileURL(join(packageRoot, 'activities', 'compute-job.ts')).href)});
    const job = ${JSON.stringify(job)};
    const run = (signal) => compute(job, { signal, progress() {}, commitCheckpoint: async () => {}, log() {} });
    const begunMs = performance.now();
    await run(new AbortController().signal);
    const wholeMs = performance.now() - begunMs;
    const ends = { cancelled: 0, done: 0 };
    for (let at = 0; at < ${String(CANCELS)}; at++) {
      const stop = new AbortController();
      const timer = setTimeout(() => stop.abort(new Error('cancelled')), (wholeMs * at) / ${String(CANCELS)});
      await run(stop.signal).then(() => ends.done++, (error) => { if (error.message !== 'cancelled') throw error; ends.cancelled++; });
      clearTimeout(timer);
    }
    process.stdout.write(JSON.stringify(ends));`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: packageRoot,
    env: { ...process.env, TMPDIR: join(folder, 'tmp') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, err]: [string[], string[]] = [[], []];
  child.stdout.setEncoding('utf8').on('data', (text: string) => out.push(text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => err.push(text));
  const ended = await new Promise((resolve) => {
    child.on('close', (code, signal) => {
      resolve({ code, signal });
    });
  });
  expect({ ended, err: err.join('') }).toEqual({ ended: { code: 0, signal: null }, err: '' });
  const { cancelled, done } = JSON.parse(out.join('')) as { readonly cancelled: number; readonly done: number };
  expect(cancelled + done).toBe(CANCELS);
  expect(cancelled).toBeGreaterThan(CANCELS / 2);
  // each database was closed, and has taken its folder with it
  expect((await readdir(join(folder, 'tmp'))).filter((name) => name.startsWith('millrace-duckdb-'))).toEqual([]);
}, 180_000);
