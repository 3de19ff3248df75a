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
/** While the thread loads its modules, and while it reads, scores and writes. */
const MOMENTS = [...[0, 60, 150, 300].map((afterMs) => ({ afterMs })), ...[0.01, 0.2, 0.5, 0.8].map((atFraction) => ({ atFraction }))];

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

it('loading, reading, scoring and writing are cancelled on their way, and the process lives', async () => {
  const program = `
    const { compute } = await import(${JSON.stringify(pathToFileURL(join(packageRoot, 'activities', 'compute-job.ts')).href)});
    const job = ${JSON.stringify(job)};
    for (const { afterMs, atFraction } of ${JSON.stringify(MOMENTS)}) {
      const stop = new AbortController();
      const cancel = () => stop.abort(new Error('cancelled'));
      if (afterMs !== undefined) setTimeout(cancel, afterMs);
      const progress = (fraction) => { if (fraction !== null && fraction >= atFraction) cancel(); };
      const ended = await compute(job, { signal: stop.signal, progress, commitCheckpoint: async () => {}, log() {} }).then(() => 'done', ({ message }) => message);
      process.stdout.write(ended + ' ');
    }`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: packageRoot,
    // a thread of what was built cannot take over how this program was given
    env: { ...process.env, TMPDIR: join(folder, 'tmp'), MILLRACE_TEST_BUILT: '' },
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
  expect(out.join('').trim().split(' ')).toEqual(MOMENTS.map(() => 'cancelled'));
  // each database was closed, and has taken its folder with it
  expect((await readdir(join(folder, 'tmp'))).filter((name) => name.startsWith('millrace-duckdb-'))).toEqual([]);
}, 180_000);
