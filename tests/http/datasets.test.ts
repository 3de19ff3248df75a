import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { datasetDraft, type DatasetOrigin } from '../../activities/dataset-record.ts';
import { createApiServer } from '../../api/server.ts';
import { expectations, rowCount } from '../../contracts/expectations.ts';
import type { StoredDataset } from '../../data/dataset.ts';
import { type IngestedDataset, ingestSource } from '../../data/ingest.ts';
import { validateDataset } from '../../data/validate.ts';
import { openArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
let app: ReturnType<typeof createApiServer>;
let first: StoredDataset;
let second: StoredDataset;
let ingested: IngestedDataset;
beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-api-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  store = await freshStore();
  const artifacts = await openArtifacts(join(folder, 'artifacts'));
  app = createApiServer({ store, artifacts, version: '1' });
  const put = ({ ref, manifest }: StoredDataset, origin: Partial<DatasetOrigin>) =>
    store.datasets.put(datasetDraft(ref, manifest, { kind: 'validate', source: null, ...origin }));
  const validated = async (rows: readonly string[]): Promise<StoredDataset> => {
    await writeFile(join(folder, 'rows.csv'), `id,size,kind\n${rows.join('\n')}\n`);
    ingested = await ingestSource({
      source: { format: 'csv', path: 'rows.csv' },
      name: 'rows',
      artifacts,
      projectFolder: folder,
      golden: { fraction: 0.2, by: ['id'], seed: 1 },
    });
    await put(ingested, { kind: 'ingest', owner: 'shop' });
    await put(ingested.golden!, { kind: 'golden' });
    const checked = await validateDataset({
      manifest: ingested.manifest,
      id: ingested.ref.id,
      artifacts,
      expectations: expectations({ table: [rowCount({ min: 1 })] }),
    });
    await put(checked, {});
    return checked;
  };
  const line = (shift: number) => (_: unknown, id: number) => `${String(id)},${String((id % 10) + shift)},${id % 2 === 0 ? 'a' : shift === 0 ? 'b' : 'c'}`;
  first = await validated(Array.from({ length: 100 }, line(0)));
  second = await validated(Array.from({ length: 120 }, line(10)));
});

const get = async (path: string) => {
  const answer = await app.inject({ url: `/api/v1/datasets${path}` });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
};

describe('datasets over the API', () => {
  it('are listed newest first, by name, kind and owner, page by page', async () => {
    const list = (await get('?name=rows&limit=2')).body as unknown as { items: { id: string; kind: string }[]; next: string };
    expect(list.items.map(({ id, kind }) => [id, kind])).toEqual([
      [second.ref.id, 'validate'],
      [ingested.ref.id, 'ingest'],
    ]);
    const rest = (await get(`?name=rows&limit=2&after=${list.next}`)).body as unknown as typeof list;
    expect(rest.items.map(({ kind }) => kind)).toEqual(['validate', 'ingest']);
    expect(rest.next).toBeNull();
    expect((await get('?kind=golden')).body).toMatchObject({ items: [{ name: 'rows-golden' }, { name: 'rows-golden' }] });
    expect((await get('?owner=shop')).body['items']).toHaveLength(2);
  });

  it('are found by hash, its beginning, name, and place among those of a name, with the owner that they inherit', async () => {
    for (const [text, id] of [
      [second.ref.id, second.ref.id],
      [first.ref.id.slice(0, 12), first.ref.id],
      ['rows', second.ref.id],
      ['rows@2', first.ref.id],
    ] as const)
      expect((await get(`/${text}`)).body).toMatchObject({ id, owner: 'shop' });
    expect(await get('/none')).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect((await get('/rows/lineage')).body).toMatchObject({ ancestors: [{ id: ingested.ref.id, kind: 'ingest' }], descendants: [], versions: [] });
  });

  it('are compared: columns, volume, and distributions only where both may be looked at', async () => {
    const { body } = await get('/rows@2/diff?to=rows');
    expect(body).toMatchObject({ from: first.ref.id, to: second.ref.id, rows: [first.ref.rows, second.ref.rows], added: [], removed: [], retyped: [] });
    const changes = body['columns'] as { column: string; ks: number | null; js: number | null; appeared: string[]; vanished: string[] }[];
    expect(changes.find(({ column }) => column === 'size')?.ks).toBe(1);
    expect(changes.find(({ column }) => column === 'kind')).toMatchObject({ appeared: ['c'], vanished: ['b'] });
    expect((await get('/rows-golden@1/diff?to=rows-golden')).body).toMatchObject({ columns: null });
    expect(await get('/rows/diff')).toMatchObject({ status: 400, body: { code: 'INVALID_REQUEST' } });
    expect(await get('/rows/diff?to=none')).toMatchObject({ status: 404 });
  });
});
