import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { datasetDraft } from '../../activities/dataset-record.ts';
import { incrementBase } from '../../activities/increment-base.ts';
import type { DatasetRef } from '../../contracts/references.ts';
import { IngestInputSchema } from '../../contracts/stages.ts';
import { storeManifest } from '../../data/dataset.ts';
import { incrementSettings } from '../../data/increment.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store & { readonly databaseUrl: string };
let artifacts: Artifacts;
let folder: string;
beforeAll(async () => {
  store = await freshStore();
  folder = await mkdtemp(join(tmpdir(), 'millrace-base-'));
  artifacts = await openArtifacts(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const inputOf = (name: string, more: object = {}): ReturnType<typeof IngestInputSchema.parse> =>
  IngestInputSchema.parse({ source: { format: 'csv', path: 'days/*.csv' }, name, increment: { by: 'watermark', column: 'id' }, ...more });

/** A snapshot in the catalogue, as an ingest with this input would have left it. */
async function put(
  input: ReturnType<typeof inputOf>,
  value: string,
  options: { readonly kind?: 'ingest' | 'clean'; readonly golden?: string } = {},
): Promise<DatasetRef> {
  const { ref, manifest } = await storeManifest(artifacts, {
    format: 'millrace-dataset/1',
    name: input.name,
    rows: 1,
    columns: [],
    files: [],
    transforms: [],
    rawColumns: [],
    profile: null,
    parents: [],
    golden: options.golden ?? null,
    increment: { by: 'watermark', settings: incrementSettings(input), column: 'id', value },
  });
  await store.datasets.put(datasetDraft(ref, manifest, { kind: options.kind ?? 'ingest', source: input.source }));
  return ref;
}
const baseOf = async (input: ReturnType<typeof inputOf>): Promise<string | undefined> => (await incrementBase(input, { store, artifacts }))?.id;

it('an ingest that was asked for no increment, and the first one, have no base', async () => {
  expect(await baseOf(inputOf('first'))).toBeUndefined();
  const { increment: _none, ...plain } = inputOf('first');
  expect(await baseOf(IngestInputSchema.parse(plain))).toBeUndefined();
});

it('the base is the newest snapshot of the name and the same settings that an ingest made', async () => {
  const input = inputOf('newest');
  await put(input, '1');
  const second = await put(input, '2');
  await put(inputOf('newest', { golden: { fraction: 0.1 } }), '3');
  await put(inputOf('newest', { source: { format: 'csv', path: 'other/*.csv' } }), '4');
  await put(inputOf('elsewhere'), '5');
  await put(input, '6', { kind: 'clean' });
  expect(await baseOf(input)).toBe(second.id);
});

it('the base is found behind hundreds of newer snapshots of other settings', async () => {
  const input = inputOf('deep');
  const { id } = await put(input, '1');
  for (let n = 0; n < 450; n++) await put(inputOf('deep', { increment: { by: 'watermark', column: 'other' } }), String(n));
  expect(await baseOf(input)).toBe(id);
});

it('one that was collected, or whose manifest or golden set is lost, is no base', async () => {
  const input = inputOf('lost');
  const first = await put(input, '1');
  const collected = await put(input, '2');
  const client = new pg.Client({ connectionString: store.databaseUrl });
  await client.connect();
  await client.query('UPDATE datasets SET collected_at = now() WHERE id = $1', [collected.id]);
  await client.end();
  const removed = await put(input, '3');
  await rm(await artifacts.pathOf(removed.id));
  await put(input, '4', { golden: 'f'.repeat(64) });
  expect(await baseOf(input)).toBe(first.id);
});
