/** `millrace datasets report | sample | sql`, as a person types them, over a store of real datasets. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { between, expectations, ExpectationsSchema, inSet } from '../../contracts/expectations.ts';
import { SplitOptionsSchema } from '../../contracts/split.ts';
import { type IngestedDataset, ingestSource } from '../../data/ingest.ts';
import { splitDataset } from '../../data/split.ts';
import type { StoredDataset } from '../../data/dataset.ts';
import { validateDataset } from '../../data/validate.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

const SECRET = 'ann@example.org';
let folder: string;
let store: CommandFolder['store'];
let artifacts: CommandFolder['artifacts'];
beforeEach(async () => {
  ({ folder, store, artifacts } = await commandFolder());
});

/** Records a dataset as a stage does. */
async function recorded({ ref, manifest }: StoredDataset, kind: string, report: string | null = null): Promise<string> {
  const sizeBytes = manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  await store.datasets.put({ ...ref, columns: manifest.columns, sizeBytes, kind, parents: manifest.parents, profile: manifest.profile, report });
  return ref.id;
}

async function ingested(golden = false): Promise<IngestedDataset> {
  const rows = Array.from({ length: 200 }, (_, i) =>
    [String(i), i % 2 === 0 ? 'north' : '<script>alert(1)</script>', String((i * 37) % 101), SECRET].join(','),
  );
  await writeFile(join(folder, 'shops.csv'), ['id,region,sales,owner', ...rows].join('\n'));
  return ingestSource({
    source: { format: 'csv', path: 'shops.csv' },
    name: 'shops',
    artifacts,
    projectFolder: folder,
    ...(golden ? { golden: { fraction: 0.25, seed: 1 } } : {}),
  });
}

async function validated(): Promise<{ readonly raw: string; readonly id: string; readonly dataset: StoredDataset }> {
  const raw = await ingested();
  const rules = expectations({ sales: [between(0, 90, { severity: 'warn' })], region: [inSet(['north'], { severity: 'warn' })] });
  const dataset = await validateDataset({ manifest: raw.manifest, id: raw.ref.id, expectations: rules, artifacts, target: 'sales' });
  return { raw: await recorded(raw, 'ingest'), id: await recorded(dataset, 'validate', dataset.report), dataset };
}

describe('millrace datasets report', () => {
  it('writes the profile and what expectations found as one page, beside the person or where --out says', async () => {
    const { id } = await validated();
    const out = join(folder, 'page.html');
    expect(await millrace('datasets', 'report', id.slice(0, 12), '--out', out, '--json')).toMatchObject({ code: 0, out: `${JSON.stringify({ path: out })}\n` });
    const page = await readFile(out, 'utf8');
    expect(page).toContain('<h1>shops</h1>');
    expect(page).toContain('Correlation with sales');
    expect(page).toContain('Expectations (2 not held)');
    expect(page).toContain('owner looks like e-mail addresses');
    expect(page).not.toMatch(/<script|https?:/);
    expect(page).not.toContain(SECRET);
    vi.spyOn(process, 'cwd').mockReturnValue(folder);
    const beside = await millrace('datasets', 'report', 'shops');
    vi.restoreAllMocks();
    expect(beside).toMatchObject({ code: 0, out: `${join(folder, 'shops-report.html')}\n` });
    expect(await readFile(join(folder, 'shops-report.html'), 'utf8')).toBe(page);
  });

  it('opens the page with --open, by the program that the system opens files with', async () => {
    const { id } = await validated();
    const programs = join(folder, 'bin');
    await mkdir(programs);
    for (const name of ['xdg-open', 'open']) {
      await writeFile(join(programs, name), `#!/bin/sh\nprintf %s "$1" > "${join(folder, 'opened')}"\n`);
      await chmod(join(programs, name), 0o755);
    }
    vi.stubEnv('PATH', `${programs}${delimiter}${process.env['PATH'] ?? ''}`);
    const out = join(folder, "a page's $(name).html");
    expect((await millrace('datasets', 'report', id, '--out', out, '--open')).code).toBe(0);
    await vi.waitFor(async () => {
      expect(await readFile(join(folder, 'opened'), 'utf8')).toBe(out);
    });
  });

  it('of the training part hides what looked personal before the split', async () => {
    const { dataset } = await validated();
    const parts = await splitDataset({
      manifest: dataset.manifest,
      id: dataset.ref.id,
      options: SplitOptionsSchema.parse({ by: 'random', seed: 1, leaks: { target: 'sales' } }),
      artifacts,
    });
    await recorded(parts.train, 'split');
    const out = join(folder, 'train.html');
    expect((await millrace('datasets', 'report', 'shops-train', '--out', out)).code).toBe(0);
    const page = await readFile(out, 'utf8');
    expect(page).toContain('owner looks like e-mail addresses');
    expect(page).not.toContain(SECRET);
    expect(page).toContain('Correlation with sales');
  });

  it('refuses golden sets and parts for tests, datasets without a profile, collected ones, and a folder that is not there', async () => {
    const { raw, id, dataset } = await validated();
    const options = SplitOptionsSchema.parse({ by: 'random', seed: 1 });
    const { test, validation } = await splitDataset({ manifest: dataset.manifest, id, options, artifacts });
    const { golden } = await ingested(true);
    if (golden === null) throw new Error('a golden set was expected');
    for (const [set, kind] of [
      [test, 'split'],
      [validation, 'split'],
      [golden, 'golden'],
    ] as const) {
      const kept = await recorded(set, kind);
      const out = join(folder, `${kept}.html`);
      expect(await millrace('datasets', 'report', kept, '--out', out)).toMatchObject({ code: 2, err: expect.stringContaining('kept from sight') as string });
      await expect(readFile(out)).rejects.toThrow('ENOENT');
      for (const look of [
        ['sample', kept],
        ['sql', kept, 'SELECT * FROM dataset'],
      ]) {
        expect(await millrace('datasets', ...look)).toMatchObject({ code: 2, out: '', err: expect.stringContaining('--golden') as string });
      }
    }
    expect((await millrace('datasets', 'report', raw)).err).toContain('shops has no profile');
    expect(await millrace('datasets', 'report', id, '--out', join(folder, 'no', 'page.html'))).toMatchObject({
      code: 2,
      err: expect.stringContaining('cannot be written') as string,
    });
    await store.datasets.markCollected([id]);
    for (const look of [
      ['report', id],
      ['sample', id],
      ['sql', id, 'SELECT 1'],
    ]) {
      expect((await millrace('datasets', ...look)).err).toContain('were collected at');
    }
  });
});

describe('millrace datasets sample and sql', () => {
  it('show rows and answers of queries', async () => {
    const { id } = await validated();
    const sample = await millrace('datasets', 'sample', id, '--rows', '3', '--csv');
    expect(sample.code).toBe(0);
    expect(sample.out.trim().split('\n')).toHaveLength(4);
    expect(await millrace('datasets', 'sample', id, '--rows', '3', '--csv')).toEqual(sample);
    const answer = await millrace('datasets', 'sql', 'shops@2', "SELECT count(*) AS n, max(sales) AS most FROM dataset WHERE region = 'north'", '--csv');
    expect(answer).toMatchObject({ code: 0, out: 'n,most\n100,100\n' });
    expect(await millrace('datasets', 'sql', id, 'SELECT * FROM dateset')).toMatchObject({ code: 2, out: '' });
  });
});

describe('millrace datasets suggest', () => {
  it('writes expectations that are a module, hold on their own rows, and find rows of another kind', async () => {
    const shops = await ingested();
    const id = await recorded(shops, 'ingest');
    const out = join(folder, 'expectations.ts');
    expect(await millrace('datasets', 'suggest', id, '--out', out)).toMatchObject({
      code: 0,
      out: expect.stringMatching(/expectations\.ts has \d+ expectations of shops/) as string,
    });
    const text = await readFile(out, 'utf8');
    expect(text).not.toContain(SECRET);
    // in a project the package is there; here its builders stand in the same place
    await writeFile(out, text.replace("'millrace'", JSON.stringify(fileURLToPath(new URL('../../workflows/index.ts', import.meta.url)))));
    const module = (await import(pathToFileURL(out).href)) as Readonly<Record<string, unknown>>;
    const suggested = ExpectationsSchema.parse(Object.values(module)[0]);
    const check = async (of: IngestedDataset) =>
      (await validateDataset({ manifest: of.manifest, id: of.ref.id, expectations: suggested, artifacts })).validation;
    expect((await check(shops)).results.filter(({ success }) => !success)).toEqual([]);
    await writeFile(join(folder, 'shops.csv'), 'id,region,sales,owner\n1,south,-5000000,');
    const others = await ingestSource({ source: { format: 'csv', path: 'shops.csv' }, name: 'shops', artifacts, projectFolder: folder });
    expect((await check(others)).results.filter(({ success }) => !success).map(({ column }) => column)).toEqual(expect.arrayContaining(['region', 'sales']));
  });

  it('keeps a file that is there, unless told to write over it', async () => {
    const id = await recorded(await ingested(), 'ingest');
    const out = join(folder, 'mine.ts');
    await writeFile(out, 'mine');
    expect(await millrace('datasets', 'suggest', id, '--out', out)).toMatchObject({ code: 1, err: expect.stringContaining('is there already') as string });
    expect(await readFile(out, 'utf8')).toBe('mine');
    expect((await millrace('datasets', 'suggest', id, '--out', out, '--force')).code).toBe(0);
    expect(await readFile(out, 'utf8')).toContain('Suggested by');
  });
});
