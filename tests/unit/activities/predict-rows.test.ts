import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { InferenceSession } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PredictedDataset, PredictJob } from '../../../activities/predict-job.ts';
import { predictRows } from '../../../activities/predict-rows.ts';
import { packageRoot } from '../../../config/package-root.ts';
import { hashed, set } from '../../../contracts/row-transforms.ts';
import { datasetFiles } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { readColumns } from '../../../data/read-columns.ts';
import { createScorer } from '../../../ml/score.ts';
import { type Artifacts, createArtifacts } from '../../../store/artifacts.ts';
import { expectedProbability, FLIGHT_SIGNATURE, flightModel } from '../../support/serving-fixture.ts';

const ROWS = 12_345;
const FILE_ROWS = 2_000;

let folder: string;
let artifacts: Artifacts;
let job: PredictJob;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-predict-rows-'));
  artifacts = createArtifacts({ root: join(folder, 'artifacts') });
  await writeFile(join(folder, 'model.onnx'), flightModel(0));
  const source = join(folder, 'rows.parquet');
  await withDuckDb({}, (db) =>
    db.run(`COPY (SELECT
      i AS id,
      CASE WHEN i % 7 = 0 THEN NULL ELSE (i % 100) / 50.0 END AS distance,
      (i % 11) / 10.0 AS seats,
      CASE WHEN i % 5 = 0 THEN NULL WHEN i % 5 = 1 THEN 'ATL' WHEN i % 5 = 2 THEN 'ORD' ELSE 'other ' || (i % 6000) END AS origin,
      CASE WHEN i % 13 = 0 THEN NULL ELSE TIMESTAMP '2001-01-01' + INTERVAL (i) MINUTE END AS departed,
      'note, "' || i || '"' AS note
      FROM range(${ROWS}) t(i)) TO '${source}' (FORMAT parquet)`),
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
    kept: ['id', 'note'],
    prefix: '',
    fileRows: FILE_ROWS,
    threads: 1,
    gpu: null,
    artifactsFolder: artifacts.root,
    resume: null,
  };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const quiet = { progress: () => undefined, commit: () => undefined };
async function rowsOf(predicted: PredictedDataset): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const paths = await Promise.all(predicted.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
  return withDuckDb({}, (db) => db.rows(`SELECT * FROM read_parquet([${paths.map((path) => `'${path}'`).join(', ')}])`));
}

describe('batch predictions', () => {
  it('stand beside their rows, in order, as scoring the whole table gives them', async () => {
    const progress: number[] = [];
    const predicted = await predictRows(job, { progress: (fraction) => progress.push(fraction), commit: () => undefined });
    expect(predicted).toMatchObject({ width: 2, device: 'cpu', resumedRows: 0 });
    expect(predicted.files.map(({ rows }) => rows)).toEqual([2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 345]);
    expect(progress.at(-1)).toBe(1);
    const rows = await rowsOf(predicted);
    const table = await readColumns(
      job.files.map(({ path }) => path),
      ['distance', 'seats', 'departed', 'origin'],
    );
    const scorer = await createScorer(job.onnx, job.signature.graph);
    const { values } = await scorer.score(table);
    await scorer.close();
    expect(rows.map(({ id }) => Number(id))).toEqual(Array.from({ length: ROWS }, (_, i) => i));
    for (const [index, row] of rows.entries()) {
      const late = values[2 * index + 1] ?? Number.NaN;
      expect(row['note']).toBe(`note, "${String(index)}"`);
      if (Number.isNaN(late)) expect([row['prediction'], row['probability'], row['probability_late']]).toEqual(['on time', null, null]);
      else {
        expect(row['probability_late']).toBe(late);
        expect(row['prediction']).toBe(late >= 0.5 ? 'late' : 'on time');
        expect(row['probability']).toBe(Math.max(late, values[2 * index] ?? 0));
      }
    }
    const row = { distance: 2 / 50, seats: 0.2, origin: 'ORD', departed: '2001-01-01T00:02:00.000Z' };
    expect(rows[2]?.['probability_late']).toBeCloseTo(expectedProbability(row, 0), 6);
  });

  it('of raw rows go through the row transforms first, hashes by the project’s key among them', async () => {
    const hashing: PredictJob = { ...job, transforms: [set('origin', hashed('origin'))], kept: ['id'] };
    const rows = await rowsOf(await predictRows(hashing, quiet));
    const row = { distance: 1 / 50, seats: 0.1, origin: 'unknown to the model', departed: '2001-01-01T00:01:00.000Z' };
    expect(rows[1]?.['probability_late']).toBeCloseTo(expectedProbability(row, 0), 6);
    expect(rows).toHaveLength(ROWS);
  });

  it('have the same bytes whatever the threads, and go on after the last file when the process is killed', async () => {
    const whole = await predictRows(job, quiet);
    expect((await predictRows({ ...job, threads: 2 }, quiet)).files).toEqual(whole.files);
    const state = join(folder, 'state.json');
    const program = `
      const { predictRows } = await import(${JSON.stringify(pathToFileURL(join(packageRoot, 'activities', 'predict-rows.ts')).href)});
      const { writeFileSync } = await import('node:fs');
      await predictRows(${JSON.stringify({ ...job, artifactsFolder: join(folder, 'killed') })}, {
        progress() {},
        commit(step, bytes) {
          writeFileSync(${JSON.stringify(state)}, bytes);
          if (step === 3) process.kill(process.pid, 'SIGKILL');
        },
      });`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { cwd: packageRoot, stdio: 'inherit' });
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect(signal).toBe('SIGKILL');
    expect(existsSync(state)).toBe(true);
    const steps: number[] = [];
    const resumed = await predictRows(
      { ...job, artifactsFolder: join(folder, 'killed'), resume: readFileSync(state) },
      { progress: () => undefined, commit: (step) => steps.push(step) },
    );
    expect(resumed).toEqual({ ...whole, resumedRows: 3 * FILE_ROWS });
    expect(steps).toEqual([4, 5, 6, 7]);
    // all is done already: nothing is left to be read or run
    const last: Uint8Array[] = [];
    await predictRows({ ...job, fileRows: ROWS }, { progress: () => undefined, commit: (_, bytes) => last.push(bytes) });
    const done = await predictRows({ ...job, fileRows: ROWS, resume: last[0] ?? null }, quiet);
    expect(done).toMatchObject({ width: 2, resumedRows: ROWS });
    expect(done.files).toHaveLength(1);
  });

  it('run on CUDA where onnxruntime finds its libraries, and on the CPU where not', async () => {
    const cuda = await InferenceSession.create(job.onnx, { executionProviders: ['cuda'], logSeverityLevel: 4 }).then(
      (session) => session.release().then(() => true),
      () => false,
    );
    const [there, here] = [await predictRows({ ...job, gpu: 0 }, quiet), await predictRows(job, quiet)];
    expect(there.device).toBe(cuda ? 'gpu' : 'cpu');
    const [onGpu, onCpu] = [await rowsOf(there), await rowsOf(here)];
    expect(onGpu).toHaveLength(ROWS);
    for (const index of [1, 2, 100, 12_000]) expect(onGpu[index]?.['probability_late']).toBeCloseTo(Number(onCpu[index]?.['probability_late']), 4);
  });

  it('say which file is not what its manifest says', async () => {
    const [first] = job.files;
    const short = [{ path: first?.path ?? '', rows: ROWS + 5 }];
    await expect(predictRows({ ...job, files: short }, quiet)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    await writeFile(join(folder, 'broken.onnx'), (await readFile(job.onnx)).subarray(0, 50));
    await expect(predictRows({ ...job, onnx: join(folder, 'broken.onnx') }, quiet)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });
});
