/** Figures in memory against those that a monitor takes of the same rows. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Column, RawTable } from '../../../../contracts/columns.ts';
import { type DriftReport, DriftSettingsSchema } from '../../../../contracts/drift.ts';
import { measureDrift } from '../../../../data/drift.ts';
import { withDuckDb } from '../../../../data/duckdb.ts';
import { readColumns } from '../../../../data/read-columns.ts';
import { decideDrift } from '../../../../ml/drift/decide.ts';
import { driftOfRows, tableReference } from '../../../../ml/drift/table-drift.ts';

const COLUMNS: readonly Column[] = [
  { name: 'x', type: 'number' },
  { name: 'few', type: 'integer' },
  { name: 'yes', type: 'boolean' },
  { name: 'kind', type: 'string' },
  { name: 'none', type: 'number' },
  { name: 'at', type: 'timestamp' },
];
const NAMES = COLUMNS.map(({ name }) => name);
const SPLIT = 3_000;
const folder = mkdtempSync(join(tmpdir(), 'millrace-table-drift-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});
const file = (name: string): string => join(folder, `${name}.parquet`);

let table: RawTable;
beforeAll(async () => {
  const rows = `SELECT CASE WHEN i % 9 > 0 THEN ((i * 7919) % 1013) / 7 + CASE WHEN i >= ${String(SPLIT)} THEN 20 ELSE 0 END END AS x,
      (i * 31) % 3 AS few, i % CASE WHEN i < ${String(SPLIT)} THEN 2 ELSE 5 END = 0 AS yes,
      CASE WHEN i % 40 = 1 THEN NULL WHEN i >= ${String(SPLIT)} AND i % 10 = 0 THEN 'new' ELSE 'c' || ((i * i) % 37) END AS kind,
      CAST(NULL AS DOUBLE) AS none, TIMESTAMP '2026-01-01' + INTERVAL (i) MINUTE AS at, i FROM range(4000) t(i)`;
  await withDuckDb({}, async (db) => {
    await db.run(`COPY (${rows} ORDER BY i) TO '${file('all')}' (FORMAT parquet)`);
    await db.run(`COPY (SELECT * FROM '${file('all')}' WHERE i < ${String(SPLIT)}) TO '${file('reference')}' (FORMAT parquet)`);
    await db.run(`COPY (SELECT * FROM '${file('all')}' WHERE i >= ${String(SPLIT)}) TO '${file('recent')}' (FORMAT parquet)`);
  });
  table = await readColumns([file('all')], NAMES);
});

const compared = ({ columns }: DriftReport) =>
  new Map(
    columns.map(({ column, psi, expectedPsi, bins, nullFraction, nulls, values, rows, kind }) => [
      column,
      { psi, expectedPsi, bins, nullFraction, nulls, values, rows, kind },
    ]),
  );

describe('drift of rows in memory', () => {
  it("has a monitor's figures of the same rows, and comes to the same decision", async () => {
    const monitor = await measureDrift(
      { kind: 'parquet', paths: [file('recent')] },
      { kind: 'rows', rows: { kind: 'parquet', paths: [file('reference')] }, columns: COLUMNS },
    );
    const report = driftOfRows(tableReference(table, NAMES, 0, SPLIT), SPLIT, table.rows);
    expect([...report.skipped].sort()).toEqual([...monitor.skipped].sort());
    expect(report.skipped).toEqual(['none', 'at']);
    const [mine, theirs] = [compared(report), compared(monitor)];
    expect([...mine.keys()].sort()).toEqual(['few', 'kind', 'x', 'yes']);
    for (const [column, figures] of mine) {
      const wanted = theirs.get(column);
      expect(figures.psi).toBeCloseTo(wanted?.psi ?? Number.NaN, 12);
      expect({ ...figures, psi: 0 }).toEqual({ ...wanted, psi: 0 });
    }
    const decide = (of: DriftReport) => {
      const { verdict, columns } = decideDrift({ from: '2026-01-03T02:00:00.000Z', report: of, past: [], settings: DriftSettingsSchema.parse({}) });
      return { verdict, columns: columns.map(({ column, drifted, tests }) => ({ column, drifted, tests })) };
    };
    expect(decide(report)).toEqual(decide({ ...monitor, columns: monitor.columns.filter(({ column }) => mine.has(column)) }));
    expect(
      decide(report)
        .columns.filter(({ drifted }) => drifted)
        .map(({ column }) => column)
        .sort(),
    ).toEqual(['kind', 'x', 'yes']);
  });

  it('is nothing of the rows themselves, and has no figures of no rows', () => {
    const reference = tableReference(table, NAMES, 100, 900);
    for (const { psi } of driftOfRows(reference, 100, 900).columns) expect(psi).toBe(0);
    expect(driftOfRows(reference, 900, 900)).toMatchObject({ rows: 0, columns: [] });
  });
});
