import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { impute, trim } from '../../../contracts/clean-rules.ts';
import { between, expectations } from '../../../contracts/expectations.ts';
import { DatasetManifestSchema } from '../../../contracts/references.ts';
import { FoldOptionsSchema, SplitOptionsSchema } from '../../../contracts/split.ts';
import { cleanDataset } from '../../../data/clean.ts';
import { loadManifest, type StoredDataset } from '../../../data/dataset.ts';
import { datasetFromQuery } from '../../../data/frames.ts';
import { type IngestedDataset, ingestSource } from '../../../data/ingest.ts';
import { refuseReserved } from '../../../data/reserved.ts';
import { foldDataset, splitDataset } from '../../../data/split.ts';
import { validateDataset } from '../../../data/validate.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let folder: string;
let rows: IngestedDataset;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-reserved-'));
  const lines = Array.from({ length: 300 }, (_, id) => `${String(id)},${id % 7 === 0 ? '' : String(id % 10)},${id % 2 === 0 ? 'a' : 'b '}`);
  await writeFile(join(folder, 'rows.csv'), `id,x,s\n${lines.join('\n')}\n`);
  rows = await ingestSource({
    source: { format: 'csv', path: 'rows.csv' },
    name: 'rows',
    artifacts,
    projectFolder: folder,
    golden: { fraction: 0.2, by: ['id'], seed: 1 },
  });
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const split = ({ manifest, ref }: StoredDataset, options: Parameters<typeof SplitOptionsSchema.parse>[0]) =>
  splitDataset({ manifest, id: ref.id, options: SplitOptionsSchema.parse(options), artifacts });
const reserved = ({ manifest }: StoredDataset): string | null => manifest.reserved;

describe('what models are judged on', () => {
  it('is reserved, by ingest and by every way to split, and nothing else is', async () => {
    expect([reserved(rows), rows.golden?.manifest.reserved]).toEqual([null, 'golden']);
    const parts = await split(rows, { by: 'random' });
    expect([parts.train, parts.validation, parts.test].map(reserved)).toEqual([null, 'validation', 'test']);
    const fixed = await split(rows, { by: 'fixed' });
    expect([fixed.train, fixed.validation, fixed.test].map(reserved)).toEqual([null, 'validation', 'test']);
    const { folds, test } = await foldDataset({
      manifest: rows.manifest,
      id: rows.ref.id,
      options: FoldOptionsSchema.parse({ by: 'random', k: 3, test: 0.2 }),
      artifacts,
    });
    expect(folds.map(({ train, validation }) => [reserved(train), reserved(validation)])).toEqual(Array(3).fill([null, 'validation']));
    expect(test?.manifest.reserved).toBe('test');
  });

  it('stays reserved through recipes, steps, expectations and another split, and no figure of it is kept', async () => {
    const golden = rows.golden!;
    const origin = { manifest: golden.manifest, id: golden.ref.id, artifacts };
    const cleaned = await cleanDataset({ ...origin, rules: [trim(['s'])] });
    const stepped = await datasetFromQuery(() => 'SELECT id, x FROM dataset', { ...origin, step: 'some', serving: [] });
    const checked = await validateDataset({ ...origin, expectations: expectations({ x: [between(0, 5)] }), quarantineAtMost: 0.9 });
    const again = await split(golden, { by: 'random' });
    const made = [cleaned.dataset, stepped, checked, checked.quarantined!, again.train];
    expect(made.map(reserved)).toEqual(Array(5).fill('golden'));
    expect(made.map(({ manifest }) => manifest.profile)).toEqual(Array(5).fill(null));
    expect(checked.quarantined?.ref.rows).toBeGreaterThan(0);
  });

  it('gives no figure to the rules of a recipe', async () => {
    const golden = rows.golden!;
    const fitOn = { manifest: golden.manifest, id: golden.ref.id };
    await expect(cleanDataset({ manifest: rows.manifest, id: rows.ref.id, rules: [impute(['x'], 'mean')], fitOn, artifacts })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      message: expect.stringContaining('rows-golden') as string,
    });
  });

  it('is refused to whoever looks, with what it is kept for; manifests that do not say are open', async () => {
    expect(() => {
      refuseReserved(rows.golden!.manifest, 'Do otherwise.');
    }).toThrow(/rows-golden is a golden set: it is kept from sight/);
    const { reserved: _, ...older } = await loadManifest(artifacts, rows.ref);
    expect(DatasetManifestSchema.parse(older).reserved).toBeNull();
  });
});
