import { afterAll, describe, expect, it } from 'vitest';
import { LabelFunctionsInputSchema, type LabelItemDraft, type PeoplesAnswers, rule, votes } from '../../../contracts/labels.ts';
import type { DatasetManifest } from '../../../contracts/references.ts';
import { call, col } from '../../../contracts/row-transforms.ts';
import { loadManifest, storeManifest, writeSnapshot } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { labelByFunctions, labelDataset } from '../../../data/labelling.ts';
import { createFileArtifacts } from '../../support/file-artifacts.ts';

const artifacts = await createFileArtifacts();
afterAll(() => artifacts.remove());
const hashKey = 'k'.repeat(32);

async function dataset(sql: string, columns: DatasetManifest['columns'], more: Partial<DatasetManifest> = {}) {
  return withDuckDb({}, async (db) => {
    const written = await writeSnapshot(db, artifacts, sql, { filtered: false, whenEmpty: () => new Error('empty') as never });
    return storeManifest(artifacts, {
      format: 'millrace-dataset/1',
      name: 'mails',
      rows: written.rows,
      columns,
      files: [written],
      transforms: [],
      rawColumns: columns,
      profile: null,
      parents: [],
      ...more,
    });
  });
}
const MAILS = [
  { name: 'id', type: 'integer' },
  { name: 'text', type: 'string' },
  { name: 'sender', type: 'string' },
  { name: 'label', type: 'string' },
] as const;
/** 100 mails: money on every second, hello on every third; every tenth has its label. */
const mails = () =>
  dataset(
    `SELECT CAST(i AS BIGINT) AS id, concat(CASE WHEN i % 2 = 0 THEN 'money ' ELSE '' END, CASE WHEN i % 3 = 0 THEN 'hello ' ELSE '' END, i) AS text, sha256(CAST(i AS VARCHAR)) AS sender, CASE WHEN i % 10 = 0 THEN 'spam' END AS label FROM range(100) t(i)`,
    [...MAILS],
    { sensitive: { sender: 'hash' } },
  );
const RULES = [rule('money', call('contains', col('text'), 'money'), 'spam'), rule('hello', call('contains', col('text'), 'hello'), 'ham')];
const vote = async (manifest: DatasetManifest, id: string, options: Readonly<Record<string, unknown>> = {}) =>
  labelByFunctions({
    manifest,
    artifacts,
    hashKey,
    input: LabelFunctionsInputSchema.parse({
      dataset: { kind: 'dataset', id, name: 'mails', rows: manifest.rows },
      column: 'label',
      classes: ['spam', 'ham'],
      by: RULES,
      people: {},
      ...options,
    }),
  });
const itemsOf = async (sha: string | null): Promise<readonly LabelItemDraft[]> => (sha === null ? [] : ((await artifacts.getJson(sha)) as LabelItemDraft[]));

describe('labelling functions', () => {
  it('vote on rows without a label: coverage, conflicts, overlaps and accuracy are counts over the rows', async () => {
    const { ref, manifest } = await mails();
    const { report, output } = await vote(manifest, ref.id);
    const unlabelled = Array.from({ length: 100 }, (_, i) => i).filter((i) => i % 10 !== 0);
    const both = unlabelled.filter((i) => i % 6 === 0).length;
    const money = unlabelled.filter((i) => i % 2 === 0).length;
    const hello = unlabelled.filter((i) => i % 3 === 0).length;
    expect(report).toMatchObject({ rows: 100, given: 10, covered: money + hello - both, conflicting: both, labelled: money + hello - 2 * both });
    expect(report.functions).toEqual([
      { name: 'money', coverage: money / 90, votes: { spam: money }, overlaps: both / money, conflicts: both / money, accuracy: 1, estimated: null },
      { name: 'hello', coverage: hello / 90, votes: { ham: hello }, overlaps: both / hello, conflicts: both / hello, accuracy: 0, estimated: null },
    ]);
    const items = await itemsOf(output.items);
    expect(items).toHaveLength(90 - (money + hello - 2 * both));
    // hashed columns and the label are not shown; conflicts, on which the majority is least sure, come among the first
    expect(Object.keys(items[0]?.shown ?? {})).toEqual(['id', 'text']);
    expect(items.map(({ priority }) => priority)).toEqual([...items.map(({ priority }) => priority)].sort((a, b) => b - a));
  });

  it('may be a column that a step made; a vote for no class, and a column that is not there, are refused', async () => {
    const { ref, manifest } = await dataset(
      "SELECT CAST(i AS BIGINT) AS id, CASE WHEN i < 3 THEN 'ham' WHEN i < 5 THEN 'eggs' END AS guess FROM range(6) t(i)",
      [
        { name: 'id', type: 'integer' },
        { name: 'guess', type: 'string' },
      ],
    );
    const { report } = await vote(manifest, ref.id, { by: [votes('guess', 'guess')] });
    expect(report).toMatchObject({ given: 0, labelled: 3, functions: [{ name: 'guess', coverage: 0.5 }] });
    await expect(vote(manifest, ref.id, { by: [votes('no', 'none')] })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
    await expect(vote(manifest, ref.id, { by: [rule('eggs', call('equal', col('id'), 1), 'eggs')] })).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ path: 'by.0.label', found: 'eggs' }],
    });
  });

  it('ask about as many rows as wanted, the same ones each time, and once about rows that are alike', async () => {
    const { ref, manifest } = await mails();
    const sampled = await vote(manifest, ref.id, { by: [], people: { sample: 7, seed: 3 } });
    expect(await itemsOf(sampled.output.items)).toHaveLength(7);
    expect((await vote(manifest, ref.id, { by: [], people: { sample: 7, seed: 3 } })).output).toEqual(sampled.output);
    expect((await vote(manifest, ref.id, { by: [], people: { sample: 7, seed: 4 } })).output.items).not.toBe(sampled.output.items);
    const first = await vote(manifest, ref.id, { by: [], people: { atMost: 3, order: 'given', show: ['text'] } });
    expect((await itemsOf(first.output.items)).map(({ shown }) => shown)).toEqual([{ text: '1' }, { text: 'money 2' }, { text: 'hello 3' }]);
    const alike = await dataset("SELECT 'same' AS text FROM range(50)", [{ name: 'text', type: 'string' }]);
    expect((await vote(alike.manifest, alike.ref.id, { by: [] })).output.asked).toBe(1);
  });

  it('weighed by Dawid and Skene, with a vote more than a majority knows, tell how right each is', async () => {
    const { ref, manifest } = await mails();
    const { report } = await vote(manifest, ref.id, { combine: 'dawidSkene', people: null });
    for (const { estimated } of report.functions) expect(estimated).toBeGreaterThan(0.5);
    expect(report.asked).toBe(0);
  });
});

describe('labels', () => {
  const answersOf = (items: readonly LabelItemDraft[], label: string): PeoplesAnswers => ({
    items: items.map(({ key }) => ({ key, label, answers: [{ by: 'ada', label, at: '2026-01-02T03:04:05.000Z', comment: null }] })),
  });

  it('fill the column in row order, change no label that was there, and give the same bytes again', async () => {
    const { ref, manifest } = await mails();
    const { output } = await vote(manifest, ref.id);
    const options = {
      manifest,
      id: ref.id,
      column: 'label',
      classes: ['spam', 'ham'],
      labels: output.labels,
      answers: answersOf(await itemsOf(output.items), 'ham'),
      authors: true,
      artifacts,
      hashKey,
    };
    const labelled = await labelDataset(options);
    expect((await labelDataset({ ...options, threads: 1 })).ref).toEqual(labelled.ref);
    expect(labelled.counts).toMatchObject({ given: 10 });
    const stored = await loadManifest(artifacts, labelled.ref);
    expect(stored).toMatchObject({ parents: [ref.id], unserved: { label: 'label', label_by: 'label', label_at: 'label' }, sensitive: { sender: 'hash' } });
    const rows = await withDuckDb({}, async (db) =>
      db.rows(`SELECT * EXCLUDE (sender, text) FROM read_parquet('${await artifacts.pathOf(stored.files[0]?.sha256 ?? '')}')`),
    );
    rows.forEach((row, i) => {
      const both = i % 6 === 0;
      const by = i % 10 === 0 ? null : both || (i % 2 !== 0 && i % 3 !== 0) ? 'ada' : 'functions';
      const label = i % 10 === 0 ? 'spam' : by === 'ada' || i % 3 === 0 ? 'ham' : 'spam';
      expect([Number(row['id']), row['label'], row['label_by']]).toEqual([i, label, by]);
    });
  });

  it('make the column where it is not there, in the type of the classes, null where nobody knows', async () => {
    const { ref, manifest } = await dataset('SELECT CAST(i AS BIGINT) AS id FROM range(4) t(i)', [{ name: 'id', type: 'integer' }]);
    const { output } = await vote(manifest, ref.id, {
      column: 'good',
      classes: [true, false],
      by: [rule('small', call('less', col('id'), 2), false)],
      people: null,
    });
    const { ref: made, counts } = await labelDataset({
      manifest,
      id: ref.id,
      column: 'good',
      classes: [true, false],
      labels: output.labels,
      answers: null,
      authors: false,
      artifacts,
      hashKey,
    });
    expect(counts).toEqual({ functions: 2, none: 2 });
    const stored = await loadManifest(artifacts, made);
    expect(stored.columns).toEqual([
      { name: 'id', type: 'integer' },
      { name: 'good', type: 'boolean' },
    ]);
    const rows = await withDuckDb({}, async (db) => db.rows(`SELECT good FROM read_parquet('${await artifacts.pathOf(stored.files[0]?.sha256 ?? '')}')`));
    expect(rows.map((row) => row['good'])).toEqual([false, false, null, null]);
    await expect(vote((await mails()).manifest, ref.id, { classes: [1, 2], by: [] })).rejects.toMatchObject({ code: 'COLUMN_TYPE' });
  });
});
