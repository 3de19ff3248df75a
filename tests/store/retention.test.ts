import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DatasetRef } from '../../contracts/references.ts';
import { storeManifest } from '../../data/dataset.ts';
import { withDuckDb } from '../../data/duckdb.ts';
import { profileDataset } from '../../data/profile.ts';
import { queryDataset, sampleDataset } from '../../data/query-dataset.ts';
import { compareDatasets } from '../../data/compare-datasets.ts';
import { packageRoot } from '../../config/package-root.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import { collectDatasets, markDatasets, sweepArtifacts } from '../../store/retention.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

const FLIGHTS = join(packageRoot, 'node_modules/vega-datasets/data/flights-3m.parquet');
/** Collects until it is killed: after the records were marked, or after the first file was removed. */
const COLLECTING_CHILD = `
import { openArtifacts } from './store/artifacts.ts';
import { markDatasets, sweepArtifacts } from './store/retention.ts';
import { openStore } from './store/store.ts';
const [when, databaseUrl = '', folder = ''] = process.argv.slice(2);
const options = { olderThanMs: 0, keepLast: 1, graceMs: 0 };
const place = { store: openStore({ databaseUrl }), artifacts: await openArtifacts(folder) };
const hang = async () => { process.stdout.write('now'); setInterval(() => {}, 1_000); await new Promise(() => {}); };
await markDatasets(place, options);
if (when === 'marked') await hang();
await sweepArtifacts({ ...place, artifacts: { ...place.artifacts, remove: async (...removed) => (await place.artifacts.remove(...removed)) && (await hang(), true) } }, options);
`;
const NOW = { olderThanMs: 0, keepLast: 1, graceMs: 0 };

let folder: string;
let store: Store & { readonly databaseUrl: string };
let artifacts: Artifacts;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-retention-'));
  store = await freshStore();
  artifacts = await openArtifacts(folder);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A snapshot of so many flights from a row on, recorded as a stage would. */
async function snapshot(name: string, from: number, rows: number, more: { parents?: string[]; kind?: string; owner?: string } = {}): Promise<DatasetRef> {
  const path = await artifacts.temporaryFile('.parquet');
  await withDuckDb({ threads: 1 }, (db) =>
    db.run(`COPY (SELECT * FROM read_parquet('${FLIGHTS}') LIMIT ${rows} OFFSET ${from}) TO '${path}' (FORMAT parquet)`),
  );
  const columns = [
    { name: 'date', type: 'timestamp' },
    { name: 'delay', type: 'integer' },
    { name: 'distance', type: 'integer' },
    { name: 'origin', type: 'string' },
    { name: 'destination', type: 'string' },
  ] as const;
  const { sha256, sizeBytes } = await artifacts.putFile(path);
  const profile = await artifacts.putJson(await profileDataset([{ path: await artifacts.pathOf(sha256), rows }], columns));
  const parents = more.parents ?? [];
  const { ref } = await storeManifest(artifacts, {
    format: 'millrace-dataset/1',
    name,
    rows,
    columns: [...columns],
    files: [{ sha256, rows, sizeBytes }],
    transforms: [],
    rawColumns: [...columns],
    profile: profile.sha256,
    parents,
  });
  await store.datasets.put({ ...ref, rows, columns, sizeBytes, kind: more.kind ?? 'ingest', parents, profile: profile.sha256, owner: more.owner ?? null });
  return ref;
}

/** All artifacts look as if they were last used long ago. */
async function age(): Promise<void> {
  const long = new Date('2020-01-01T00:00:00Z');
  for await (const { sha256 } of artifacts.list()) await utimes(await artifacts.pathOf(sha256), long, long);
}

async function count(): Promise<number> {
  let found = 0;
  for await (const artifact of artifacts.list()) found += artifact.sizeBytes > 0 ? 1 : 0;
  return found;
}

async function versionTrainedOn(dataset: DatasetRef): Promise<void> {
  const runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  const begin = { runId, attempt: 1, fingerprint: null, useCache: false } as const;
  const train = await store.stages.begin({ ...begin, name: 'train', kind: 'train', ordinal: 1, input: { train: dataset } });
  const predictor = (await artifacts.putJson({ format: 'a predictor', onnx: (await artifacts.putBytes(Buffer.from('a model'))).sha256 })).sha256;
  await store.stages.complete({ runId, name: 'train', token: train.token, output: { predictor } });
  const register = await store.stages.begin({ ...begin, name: 'register', kind: 'register', ordinal: 2 });
  await store.models.register({ model: 'm', predictor, metrics: {}, evaluation: null, by: { runId, stage: 'register', token: register.token } });
  await store.stages.complete({ runId, name: 'register', token: register.token, output: {} });
  await store.runs.end({ runId, status: 'completed' });
}

describe('retention', () => {
  it('keeps the model card of a version, with its page', async () => {
    const raw = await snapshot('flights', 0, 10);
    await versionTrainedOn(raw);
    const page = await artifacts.putBytes(Buffer.from('<!doctype html>'));
    const card = await artifacts.putJson({ format: 'millrace-card/1', page: page.sha256 });
    const loose = await artifacts.putJson({ format: 'millrace-card/1', page: null });
    await store.models.setCard({ model: 'm', version: 1, card: card.sha256 });
    await age();
    await collectDatasets({ store, artifacts }, NOW);
    expect(await Promise.all([page, card, loose].map(({ sha256 }) => artifacts.has(sha256)))).toEqual([true, true, false]);
  });

  it('takes what nothing points to, and keeps what a version was trained on, up to the raw source', async () => {
    const raw = await snapshot('flights', 0, 500, { owner: 'air' });
    const trained = await snapshot('flights-train', 0, 400, { parents: [raw.id], kind: 'split' });
    await versionTrainedOn(trained);
    const loose = await snapshot('flights', 1_000, 300);
    const newest = await snapshot('flights', 2_000, 300);
    await snapshot('flights-train', 2_000, 200, { parents: [newest.id], kind: 'split' });
    await artifacts.putBytes(Buffer.from('left by nobody'));
    await age();
    const before = await count();
    const dry = await collectDatasets({ store, artifacts }, { ...NOW, dryRun: true });
    expect([dry.datasets.map(({ id }) => id), dry.files, await count()]).toEqual([[loose.id], 4, before]);
    const done = await collectDatasets({ store, artifacts }, NOW);
    expect([done.datasets.map(({ id }) => id), done.files, done.sizeBytes]).toEqual([[loose.id], 4, dry.sizeBytes]);
    expect(await count()).toBe(before - 4);
    expect((await store.datasets.get(loose.id)).collectedAt).not.toBeNull();
    for (const kept of [raw, trained, newest]) expect(await artifacts.has(kept.id)).toBe(true);
    expect(await store.datasets.lineage(raw.id)).toMatchObject({
      ancestors: [],
      descendants: [{ id: trained.id, by: raw.id }],
      versions: [{ model: 'm', version: 1 }],
    });
    expect(await store.datasets.owner(trained.id)).toBe('air');
    expect((await store.datasets.find('flights')).id).toBe(newest.id);
    expect((await store.datasets.find('flights@1')).id).toBe(raw.id);
    expect((await store.datasets.find(loose.id.slice(0, 10))).id).toBe(loose.id);
    expect(await collectDatasets({ store, artifacts }, NOW)).toMatchObject({ datasets: [], files: 0 });
  });

  it('goes on where it was ended, and leaves what was put again meanwhile', async () => {
    const first = await snapshot('flights', 0, 300);
    const second = await snapshot('flights', 500, 300);
    await snapshot('flights', 1_000, 300);
    await age();
    expect((await markDatasets({ store, artifacts }, NOW)).map(({ id }) => id).sort()).toEqual([first.id, second.id].sort());
    expect(await store.datasets.anyCollected([first.id])).toBe(true);
    expect(await artifacts.has(first.id)).toBe(true);
    // a stage makes the first one again between the two halves
    await snapshot('flights', 0, 300);
    await sweepArtifacts({ store, artifacts }, NOW);
    expect([await artifacts.has(first.id), await artifacts.has(second.id)]).toEqual([true, false]);
    expect((await store.datasets.get(first.id)).collectedAt).toBeNull();
    expect(await store.datasets.anyCollected([second.id])).toBe(true);
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
  });

  it.each(['marked', 'removed'] as const)('that is killed once it has %s takes nothing that a model points to, and the next one finishes', async (when) => {
    const raw = await snapshot('flights', 0, 300);
    const trained = await snapshot('flights-train', 0, 200, { parents: [raw.id], kind: 'split' });
    await versionTrainedOn(trained);
    const loose = [await snapshot('flights', 1_000, 200), await snapshot('flights', 2_000, 200)];
    const newest = await snapshot('flights', 3_000, 200);
    await age();
    const before = await count();
    const script = join(packageRoot, 'node_modules', '.cache', `millrace-gc-${randomBytes(6).toString('hex')}.mjs`);
    await build({
      stdin: { contents: COLLECTING_CHILD, resolveDir: packageRoot, loader: 'ts' },
      bundle: true,
      packages: 'external',
      platform: 'node',
      format: 'esm',
      outfile: script,
    });
    try {
      const child = spawn(process.execPath, [script, when, store.databaseUrl, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      expect(await ended).toEqual([null, 'SIGKILL']);
    } finally {
      await rm(script, { force: true });
    }
    // what was marked is gone or still whole, what a version was trained on is there with all its files
    expect(await store.datasets.anyCollected(loose.map(({ id }) => id))).toBe(true);
    expect(await count()).toBe(when === 'marked' ? before : before - 1);
    const filesOf = async (id: string) => (await artifacts.getJson(id)) as { files: { sha256: string }[]; profile: string };
    for (const { id } of [raw, trained, newest]) {
      const { files, profile } = await filesOf(id);
      for (const sha256 of [...files.map((file) => file.sha256), profile]) expect(await artifacts.has(sha256)).toBe(true);
    }
    const left = await count();
    const whole = before - 3 * loose.length;
    expect(await collectDatasets({ store, artifacts }, NOW)).toMatchObject({ datasets: [], files: left - whole });
    expect(await count()).toBe(whole);
    for (const { id } of loose) expect(await artifacts.has(id)).toBe(false);
    for (const { id } of [raw, trained, newest]) expect(await artifacts.has(id)).toBe(true);
  });

  it('leaves what was used of late, golden sets, and everything within the grace period', async () => {
    await snapshot('flights', 0, 300);
    const golden = await snapshot('flights', 300, 300, { kind: 'golden' });
    await snapshot('flights', 600, 300);
    expect(await collectDatasets({ store, artifacts }, { olderThanMs: 0, keepLast: 1 })).toMatchObject({ datasets: [], files: 0 });
    await age();
    const collection = await collectDatasets({ store, artifacts }, NOW);
    expect(collection.datasets).toHaveLength(1);
    expect(await artifacts.has(golden.id)).toBe(true);
    const { sha256 } = await artifacts.putBytes(Buffer.from('used'));
    await age();
    expect(await artifacts.keep(sha256)).toBe(true);
    expect(await artifacts.remove(sha256, Date.now() - 60_000)).toBe(false);
    expect(await artifacts.remove(sha256, Date.now() + 60_000)).toBe(true);
    expect(await artifacts.keep(sha256)).toBe(false);
  });

  it('wants a grace period while runs are open, and stops at a damaged artifact', async () => {
    const damaged = await snapshot('flights', 0, 300);
    await snapshot('other', 600, 300);
    await age();
    const path = await artifacts.pathOf(damaged.id);
    await chmod(path, 0o644);
    await writeFile(path, '{}');
    const before = await count();
    await expect(collectDatasets({ store, artifacts }, NOW)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    expect(await count()).toBe(before);
    await store.runs.begin({
      runId: randomBytes(16).toString('hex'),
      workflowId: 'w',
      temporalRunId: 't',
      pipeline: 'p',
      params: {},
      trigger: { kind: 'cli' },
    });
    await expect(collectDatasets({ store, artifacts }, NOW)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });
});

describe('a snapshot at hand', () => {
  it('is compared, sampled and queried, and a query sees nothing else', async () => {
    const [a, b] = [await snapshot('flights', 0, 2_000), await snapshot('flights', 2_000_000, 1_000)];
    const compared = async ({ id }: DatasetRef) => {
      const record = await store.datasets.get(id);
      return { ...record, profile: (await artifacts.getJson(record.profile ?? '')) as never };
    };
    const same = compareDatasets(await compared(a), await compared(a));
    expect(same.columns?.every((c) => c.moved < 1e-12 && (c.psi ?? 0) < 1e-12)).toBe(true);
    const moved = compareDatasets(await compared(a), await compared(b));
    expect(moved.rows).toEqual([2_000, 1_000]);
    expect(moved.columns?.find(({ column }) => column === 'date')?.ks).toBe(1);
    const { files } = (await artifacts.getJson(a.id)) as { files: { sha256: string; rows: number }[] };
    const paths = await Promise.all(files.map(async ({ sha256, rows }) => ({ path: await artifacts.pathOf(sha256), rows })));
    const sample = await sampleDataset(paths, { rows: 7, seed: 1 });
    expect([sample.rows.length, sample.cut]).toEqual([7, true]);
    expect(await sampleDataset(paths, { rows: 7, seed: 1 })).toEqual(sample);
    expect((await queryDataset(paths, 'SELECT count(*) AS n FROM dataset')).rows).toEqual([[2_000]]);
    expect(await queryDataset(paths, 'SELECT origin FROM dataset;', { limit: 3 })).toMatchObject({ cut: true, rows: { length: 3 } });
    await expect(queryDataset(paths, 'SELECT dely FROM dataset')).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringContaining('delay') as string,
    });
    for (const query of [
      `SELECT * FROM read_text('/etc/hostname')`,
      'DROP VIEW dataset',
      'SELECT 1; SELECT 2',
      `COPY dataset TO '${folder}/x.csv'`,
      'SELECT 1) t; SELECT (2',
    ])
      await expect(queryDataset(paths, query)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });
});
