import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withDuckDb } from '../../../data/duckdb.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { writeColumns } from '../../../data/write-columns.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-columns-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const read = (path: string, sql = '*') => withDuckDb({}, (db) => db.rows(`SELECT ${sql} FROM ${parquetRelation([path])}`));

describe('columns written as Parquet', () => {
  it('are read by DuckDB with every kind, missing values and Unicode', async () => {
    const path = join(folder, 'kinds.parquet');
    await writeColumns(path, 3, [
      { name: 'f0', kind: 'float32', values: Float32Array.of(1.5, Number.NaN, -3e38) },
      { name: 'wide', kind: 'float64', values: Float64Array.of(0.1, 1e300, Number.NaN) },
      { name: 'class', kind: 'int32', values: Int32Array.of(0, -1, 2147483647) },
      { name: 'at', kind: 'timestamp', values: Float64Array.of(0, Number.NaN, -86_400_000.5) },
      { name: 'tëxt "quoted"', kind: 'string', codes: Int32Array.of(1, -1, 0), dictionary: ['', 'Zürich 🛬'] },
    ]);
    expect(await read(path, `f0::varchar AS a, wide::varchar AS b, "class", epoch_ms("at")::varchar AS c, "tëxt ""quoted""" AS d`)).toEqual([
      { a: '1.5', b: '0.1', class: 0, c: '0', d: 'Zürich 🛬' },
      { a: 'nan', b: '1e+300', class: -1, c: null, d: null },
      { a: '-3e+38', b: 'nan', class: 2147483647, c: '-86400000', d: '' },
    ]);
  });

  it('keep their rows in order over several row groups, and over as many columns as there are', async () => {
    const rows = 600_001;
    const path = join(folder, 'long.parquet');
    await writeColumns(path, rows, [
      { name: 'n', kind: 'int32', values: Int32Array.from({ length: rows }, (_, row) => row) },
      { name: 's', kind: 'string', codes: Int32Array.from({ length: rows }, (_, row) => (row % 3) - 1), dictionary: ['a', 'b'] },
    ]);
    expect(await read(path, 'count(*)::int AS rows, sum(n)::double AS sum, count(s)::int AS texts, min(n) AS least, max(n) AS most')).toEqual([
      { rows, sum: (rows * (rows - 1)) / 2, texts: 400_000, least: 0, most: rows - 1 },
    ]);
    expect(await read(path, `bool_and(n = file_row_number) AS ordered`)).toEqual([{ ordered: true }]);
    const wide = join(folder, 'wide.parquet');
    await writeColumns(
      wide,
      2,
      Array.from({ length: 2_000 }, (_, column) => ({ name: `f${String(column)}`, kind: 'float32' as const, values: Float32Array.of(column, -column) })),
    );
    expect(await read(wide, 'f0, f14, f15, f1999')).toEqual([
      { f0: 0, f14: 14, f15: 15, f1999: 1999 },
      { f0: -0, f14: -14, f15: -15, f1999: -1999 },
    ]);
  });

  it('may have no row at all', async () => {
    const path = join(folder, 'empty.parquet');
    await writeColumns(path, 0, [{ name: 'f0', kind: 'float32', values: new Float32Array() }]);
    expect(await read(path)).toEqual([]);
  });
});
