import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { trim } from '../../../contracts/clean-rules.ts';
import type { MillraceError } from '../../../contracts/errors.ts';
import { categorical, numeric } from '../../../contracts/features.ts';
import { call, col, hashed, rename, set } from '../../../contracts/row-transforms.ts';
import type { Signature } from '../../../contracts/signature.ts';
import { cleanDataset } from '../../../data/clean.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { datasetFromQuery } from '../../../data/frames.ts';
import { type IngestedDataset, ingestSource } from '../../../data/ingest.ts';
import { refusePersonalFeatures } from '../../../data/personal-data.ts';
import { planLoggedInputs } from '../../../serving/logged-inputs.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

const HASH_KEY = 'a key of this test';
const MARKERS = ['zebrafinch@example.org', '+44 7700 900123', '219-09-9999', 'quokka@example.org', '+44 7700 900456', '457-55-5462'];
const CSV = `id,email,phone,ssn,amount
1,${MARKERS[0]},${MARKERS[1]},${MARKERS[2]},10
2,${MARKERS[3]},,${MARKERS[5]},20
3,,${MARKERS[4]},,30
`;

let artifacts: FileArtifacts;
let folder: string;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-personal-'));
  await writeFile(join(folder, 'people.csv'), CSV);
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const ingest = (more: Partial<Parameters<typeof ingestSource>[0]> = {}): Promise<IngestedDataset> =>
  ingestSource({
    source: { format: 'csv', path: 'people.csv' },
    name: 'people',
    artifacts,
    projectFolder: folder,
    hashKey: HASH_KEY,
    pii: { email: 'hash', phone: 'mask', ssn: 'drop' },
    ...more,
  });
const rowsOf = async ({ manifest }: IngestedDataset): Promise<readonly Record<string, unknown>[]> => {
  const paths = await Promise.all(manifest.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
  return withDuckDb({}, (db) => db.rows(`SELECT * FROM read_parquet([${paths.map((path) => `'${path}'`).join(', ')}]) ORDER BY id`));
};

describe('personal columns', () => {
  it('are hashed, masked or dropped before the snapshot is written, and missing values stay missing', async () => {
    const stored = await ingest();
    expect(stored.manifest.columns.map(({ name }) => name)).toEqual(['id', 'email', 'phone', 'amount']);
    expect(stored.manifest.sensitive).toEqual({ email: 'hash', phone: 'mask' });
    const rows = await rowsOf(stored);
    expect(rows.map(({ phone }) => phone)).toEqual(['***', null, '***']);
    expect(rows[0]?.['email']).toMatch(/^[0-9a-f]{64}$/);
    expect(rows[1]?.['email']).not.toBe(rows[0]?.['email']);
    expect(rows[2]?.['email']).toBeNull();
  });

  it('leave no value in any file of the artifacts, nor in any column of the snapshots, golden rows included', async () => {
    const stored = await ingest({ golden: { fraction: 0.5, by: ['id'], seed: 4 } });
    expect(stored.golden?.manifest.sensitive).toEqual({ email: 'hash', phone: 'mask' });
    const shown = JSON.stringify(
      [stored, await rowsOf(stored), stored.golden === null ? [] : await rowsOf({ ...stored, ...stored.golden })],
      (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
    );
    const root = artifacts.folder;
    const files = (await readdir(root, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    expect(files.length).toBeGreaterThan(2);
    for (const entry of files) {
      const bytes = await readFile(join(entry.parentPath, entry.name));
      for (const marker of MARKERS) expect(bytes.includes(marker)).toBe(false);
    }
    for (const marker of MARKERS) expect(shown).not.toContain(marker);
  });

  it('keep their mark where the author renames them', async () => {
    const { manifest } = await ingest({ transforms: [rename('email', 'customer')] });
    expect(manifest.sensitive).toEqual({ customer: 'hash', phone: 'mask' });
  });

  it('keep their mark wherever they are copied, renamed or computed with in cleaning, and lose it where they are made anew', async () => {
    const people = await ingest();
    const cleaned = await cleanDataset({
      manifest: people.manifest,
      id: people.ref.id,
      rules: [
        trim(['email']),
        set('shop', call('substring', col('email'), 1, 4)),
        set('both', call('concat', col('phone'), col('shop'))),
        rename('shop', 'shop_key'),
        set('phone', 'none'),
        set('person', hashed(col('amount'))),
        set('rest', call('add', col('amount'), 1)),
      ],
      artifacts,
      hashKey: HASH_KEY,
    });
    expect(cleaned.dataset.manifest.sensitive).toEqual({ email: 'hash', both: 'hash', shop_key: 'hash', person: 'hash' });
  });

  it('keep their mark through steps: by name, by the serving counterpart, and where a new column has their values', async () => {
    const people = await ingest();
    const made = await datasetFromQuery(
      () => "SELECT id, email, email AS customer, upper(email) AS shouted, phone AS tel, amount * 2 AS double, 'x' AS plain FROM dataset WHERE id < 3",
      { manifest: people.manifest, id: people.ref.id, artifacts, step: 'copies', serving: [set('shouted', call('upper', col('email')))], hashKey: HASH_KEY },
    );
    expect(made.manifest.sensitive).toEqual({ email: 'hash', customer: 'hash', shouted: 'hash', tel: 'mask' });
  });

  it('are no features unless the author says so, and every one that is refused is named', async () => {
    const { manifest } = await ingest();
    const features = { email: categorical(), phone: categorical(), amount: numeric() };
    let thrown: unknown;
    try {
      refusePersonalFeatures(features, manifest);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({
      code: 'FEATURES_INVALID',
      problems: [
        { path: 'features.email', column: 'email', fix: expect.stringContaining('categorical({ personal: true })') as string },
        { path: 'features.phone', column: 'phone' },
      ],
    });
    expect(() => {
      refusePersonalFeatures({ email: categorical({ personal: true }), amount: numeric() }, manifest);
    }).not.toThrow();
  });

  it('that the source does not have are refused, each by name', async () => {
    await expect(ingest({ pii: { mail: 'hash', fax: 'drop' } })).rejects.toMatchObject({
      code: 'COLUMN_MISSING',
      problems: [{ path: 'pii.mail' }, { path: 'pii.fax' }],
    });
    // one of the names is right, so the first line is a header
    await expect(ingest({ pii: { mail: 'hash', email: 'hash' } })).rejects.toMatchObject({
      problems: [{ path: 'pii.mail', fix: 'Use one of: id, email, phone, ssn, amount.' }],
    });
  });

  it.each([{}, { types: { email: 'string' } }] as const)('of a file without a header are not shown as names of columns', async (more) => {
    await writeFile(join(folder, 'headless.csv'), CSV.split('\n').slice(1).join('\n'));
    const error: unknown = await ingest({ source: { format: 'csv', path: 'headless.csv', ...more } }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'COLUMN_MISSING' });
    const shown = JSON.stringify((error as MillraceError).report());
    expect(shown).toContain('header: false');
    for (const marker of MARKERS) expect(shown).not.toContain(marker);
  });

  it('cannot be a watermark, for that is stored as it is', async () => {
    const increment = { rule: { by: 'watermark', column: 'email' }, settings: 'these' } as const;
    await expect(ingest({ increment })).rejects.toMatchObject({ code: 'INVALID_PARAMETERS' });
  });

  it('never reach a prediction log as they came, whether hashed or masked', async () => {
    const { manifest } = await ingest();
    const signature = {
      columns: manifest.rawColumns.filter(({ name }) => name !== 'ssn'),
      transforms: manifest.transforms.slice(0, 2),
      graph: { numbers: ['amount'], dates: [], strings: ['email', 'phone'] },
    };
    const logged = planLoggedInputs(signature as unknown as Signature);
    expect(logged.raw).toEqual(['id', 'amount']);
    expect(logged.transformed.map(({ name }) => name)).toEqual(['email', 'phone']);
  });
});
