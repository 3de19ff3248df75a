import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ColumnType } from '../../../contracts/columns.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import { call, col, hashed, keep, set } from '../../../contracts/row-transforms.ts';
import { cleanDataset } from '../../../data/clean.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { datasetFromFrame, datasetFromQuery, frameFromDataset, type FrameOptions, type StepOrigin } from '../../../data/frames.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { readColumns } from '../../../data/read-columns.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

const HASH_KEY = 'a key of the tests';
let artifacts: FileArtifacts;
let flights: StoredDataset;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  flights = await ingestSource({
    source: { format: 'parquet', path: 'package:vega-datasets/data/flights-3m.parquet' },
    name: 'flights',
    artifacts,
    projectFolder: process.cwd(),
    sampleRows: 5_000,
    seed: 1,
  });
});
afterAll(() => artifacts.remove());

const csv = async (name: string, content: string): Promise<StoredDataset> => {
  await writeFile(join(artifacts.folder, name), content);
  return ingestSource({ source: { format: 'csv', path: name }, name: 'small', artifacts, projectFolder: artifacts.folder });
};
const options = (dataset: StoredDataset, more: Partial<StepOrigin> = {}): FrameOptions & StepOrigin => ({
  manifest: dataset.manifest,
  id: dataset.ref.id,
  artifacts,
  step: 'myStep',
  serving: [],
  ...more,
});
const query = (sql: string, dataset: StoredDataset, more: Partial<StepOrigin> = {}): Promise<StoredDataset> =>
  datasetFromQuery(() => sql, options(dataset, more));
const thrownBy = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'nothing',
    (thrown: unknown) => thrown,
  );
const column = (name: string, type: ColumnType) => ({ name, type });

describe("a person's own step", () => {
  it('gets a DataFrame and gives one back, with types kept', async () => {
    const small = await csv('frame.csv', 'n,s,t,b\n1,a,2001-01-01 10:00:00,true\n,b,,false\n');
    const frame = await frameFromDataset(options(small));
    expect(frame.values).toEqual([
      [1, 'a', '2001-01-01T10:00:00.000Z', true],
      [null, 'b', null, false],
    ]);
    const back = await datasetFromFrame(frame, options(small));
    expect(back.manifest.columns).toEqual(small.manifest.columns);
    const t = (
      await readColumns(
        (await datasetFiles(artifacts, back.manifest)).map(({ path }) => path),
        ['t'],
      )
    ).columns.get('t');
    expect(t?.kind === 'timestamp' ? [...t.values] : t).toEqual([Date.UTC(2001, 0, 1, 10), NaN]);
    expect(back.manifest.parents).toEqual([small.ref.id]);
    expect(back.manifest.unserved).toEqual({});
  });

  it('is refused a frame that is too big, and told the other way', async () => {
    const error = await thrownBy(frameFromDataset({ ...options(flights), maxCells: 1000 }));
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', fix: expect.stringContaining('relationStep') as string });
  });

  it('gives a query over the dataset, whose rows are the new one', async () => {
    const made = await query('SELECT origin, count(*) AS n FROM dataset GROUP BY origin ORDER BY origin;', flights);
    expect(made.manifest.columns).toEqual([column('origin', 'string'), column('n', 'integer')]);
    const error = await thrownBy(query('SELECT nowhere FROM dataset', flights));
    expect(error).toBeInstanceOf(MillraceError);
    expect(error).toMatchObject({ code: 'USER_CODE_FAILED', message: expect.stringContaining('nowhere') as string });
  });
});

describe('what a step did to the columns', () => {
  it.each([
    ['filters', "SELECT * FROM dataset WHERE origin <> 'ATL' AND delay > 0"],
    ['sorts', 'SELECT * FROM dataset ORDER BY delay DESC, date'],
    ['repeats', 'SELECT * FROM dataset UNION ALL SELECT * FROM dataset WHERE delay > 15'],
    ['picks columns and names no other', 'SELECT distance, delay FROM dataset'],
  ])('is nothing where it only %s rows or columns: requests are served as before', async (_what, sql) => {
    expect((await query(sql, flights)).manifest).toMatchObject({ unserved: {}, rawColumns: flights.manifest.rawColumns });
  });

  it('names what it made and what it changed, and no other column', async () => {
    const made = await query('SELECT * REPLACE (distance * 2 AS distance), delay > 15 AS late FROM dataset WHERE delay IS NOT NULL', flights);
    expect(made.manifest.unserved).toEqual({ distance: 'the step myStep', late: 'the step myStep' });
    expect(made.manifest.rawColumns.map(({ name }) => name).sort()).toEqual(['date', 'delay', 'destination', 'distance', 'late', 'origin']);
  });

  it('finds a column whose values were only moved between rows', async () => {
    const small = await csv('moved.csv', 'a,b\n1,x\n2,y\n3,z\n');
    const made = await query("SELECT a, CASE b WHEN 'x' THEN 'y' WHEN 'y' THEN 'x' ELSE b END AS b FROM dataset", small);
    expect(Object.keys(made.manifest.unserved)).toEqual(['b']);
  });

  it('keeps what came before: the transforms of the dataset stay, and what could not be served still cannot', async () => {
    const { dataset: cut } = await cleanDataset({
      manifest: flights.manifest,
      id: flights.ref.id,
      rules: [set('late', call('greater', col('delay'), 15))],
      artifacts,
    });
    const first = await query('SELECT *, length(origin) AS n FROM dataset', cut);
    expect(first.manifest.transforms).toEqual(cut.manifest.transforms);
    const second = await query('SELECT * EXCLUDE (delay) FROM dataset', first);
    expect(second.manifest.unserved).toEqual({ n: 'the step myStep' });
    expect(second.manifest.transforms).toEqual([...cut.manifest.transforms, { kind: 'drop', columns: ['delay'] }]);
  });

  it('makes all columns their own source when it changes one that transforms read', async () => {
    const { dataset: cut } = await cleanDataset({
      manifest: flights.manifest,
      id: flights.ref.id,
      rules: [set('late', call('greater', col('delay'), 15))],
      artifacts,
    });
    const made = await query('SELECT * REPLACE (delay + 1 AS delay) FROM dataset', cut);
    expect(made.manifest.transforms).toEqual([]);
    expect(made.manifest.unserved).toEqual({ delay: 'the step myStep', late: 'the step myStep' });
  });
});

describe('the counterpart that a step declares for serving', () => {
  const doubled = [set('doubled', call('multiply', col('distance'), 2))];

  it('makes its columns servable, when it gives the values that the step gave', async () => {
    const made = await query('SELECT *, distance * 2.0 AS doubled FROM dataset WHERE delay > 0', flights, { serving: doubled });
    expect(made.manifest).toMatchObject({ unserved: {}, rawColumns: flights.manifest.rawColumns, transforms: doubled });
  });

  it('holds for a DataFrame too, to the rounding of floating point', async () => {
    const small = await csv('logs.csv', 'x\n1.5\n2.25\n1000.125\n');
    const frame = await frameFromDataset(options(small));
    frame.addColumn(
      'y',
      (frame['x'] as { values: number[] }).values.map((x) => Math.log(x) / 3 + 1e-13),
      { inplace: true },
    );
    const serving = [set('y', call('divide', call('ln', col('x')), 3))];
    expect((await datasetFromFrame(frame, options(small, { serving }))).manifest.unserved).toEqual({});
  });

  it('is refused where it gives other values, with the column and the first row', async () => {
    const error = await thrownBy(
      query('SELECT *, CASE WHEN distance > 2000 THEN 0.0 ELSE distance * 2.0 END AS doubled FROM dataset', flights, { serving: doubled }),
    );
    expect(error).toMatchObject({ code: 'USER_CODE_FAILED', problems: [{ column: 'doubled', row: expect.any(Number) as number, path: 'serving' }] });
    const typed = await thrownBy(query("SELECT *, 'x' AS doubled FROM dataset", flights, { serving: doubled }));
    expect(typed).toMatchObject({ code: 'USER_CODE_FAILED', problems: [{ column: 'doubled', message: expect.stringContaining('type string') as string }] });
  });

  it('may hash, with the key of the project', async () => {
    const serving = [set('origin', hashed(col('origin')))];
    const { dataset: known } = await cleanDataset({ manifest: flights.manifest, id: flights.ref.id, rules: serving, artifacts, hashKey: HASH_KEY });
    const path = (await datasetFiles(artifacts, known.manifest))[0]?.path ?? '';
    const made = await query(`SELECT d.* REPLACE (h.origin AS origin) FROM dataset d POSITIONAL JOIN read_parquet('${path}') h`, flights, {
      serving,
      hashKey: HASH_KEY,
    });
    expect(made.manifest.unserved).toEqual({});
    expect(await thrownBy(query('SELECT * REPLACE (md5(origin) AS origin) FROM dataset', flights, { serving, hashKey: HASH_KEY }))).toMatchObject({
      code: 'USER_CODE_FAILED',
    });
  });

  it('is held against filtered rows as well', async () => {
    const error = await thrownBy(query('SELECT *, distance * 3.0 AS doubled FROM dataset WHERE delay > 0', flights, { serving: doubled }));
    expect(error).toMatchObject({ code: 'USER_CODE_FAILED', problems: [{ column: 'doubled' }] });
    const kept = await query('SELECT *, distance * 2.0 AS doubled FROM dataset WHERE delay > 0', flights, {
      serving: [...doubled, keep(call('greater', col('delay'), 0))],
    });
    expect(kept.manifest.unserved).toEqual({});
  });
});
