/**
 * Rows that fail, put aside so that a run can go on with the others.
 *
 * Invariants:
 * 1. A row is put aside when it fails a row-wise expectation of severity `fail` that does not hold. One that holds within its tolerance
 *    puts nothing aside.
 * 2. Each row is in exactly one of the two snapshots; both keep the rows' order.
 * 3. What is put aside says why: the column `failed_expectations` names each expectation that the row fails.
 */
import { MillraceError } from '../contracts/errors.ts';
import type { Expectations, ValidationResult } from '../contracts/expectations.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { createColumnScan } from './column-scan.ts';
import { datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { toCount, withDuckDb } from './duckdb.ts';
import { type CheckOptions, expectationsFailed, pathOf, planCheck } from './expectations.ts';
import { identifier, parquetRelation, textLiteral } from './sql-text.ts';

export const FAILED_EXPECTATIONS = 'failed_expectations';

export interface QuarantineOptions extends CheckOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the parent of both results. */
  readonly id: string;
  readonly expectations: Expectations;
  readonly artifacts: ArtifactPort;
  /** Largest share of the rows that may be put aside, 0–1. */
  readonly atMost: number;
}

export interface Quarantine {
  /** The rows that go on. */
  readonly kept: StoredDataset;
  /** The rows that were put aside. */
  readonly quarantined: StoredDataset;
  /** What was found over all rows. */
  readonly validation: ValidationResult;
}

/**
 * Puts failing rows aside; undefined where there are none.
 * @throws MillraceError EXPECTATIONS_FAILED where more than `atMost` of the rows fail, or all of them
 */
export async function quarantineRows(options: QuarantineOptions): Promise<Quarantine | undefined> {
  const { manifest, id, expectations, artifacts, atMost } = options;
  const files = await datasetFiles(artifacts, manifest);
  const relation = parquetRelation(files.map(({ path }) => path));
  return withDuckDb(options, async (db) => {
    const scan = createColumnScan(relation);
    const check = await planCheck(db, scan, files, manifest.columns, expectations, options);
    const validation = await check.finish(await scan.run(db));
    const broken = check.checks.flatMap(({ expectation, rule }, index) => {
      const result = validation.results[index];
      const fails = result?.success === false && result.severity === 'fail' && (result.failing ?? 0) > 0;
      return rule !== undefined && fails ? [{ name: pathOf(expectation), bad: `coalesce(${rule.bad}, false)` }] : [];
    });
    if (broken.length === 0) return undefined;
    if (manifest.columns.some(({ name }) => name.toLowerCase() === FAILED_EXPECTATIONS))
      throw new MillraceError('SOURCE_MALFORMED', `The dataset has a column ${FAILED_EXPECTATIONS}: that name is for what is put aside.`, {
        fix: 'Rename the column.',
      });
    const any = `(${broken.map(({ bad }) => bad).join(' OR ')})`;
    const failing = toCount((await db.row(`SELECT count(*) AS n FROM ${relation} WHERE ${any}`))['n']);
    if (failing > atMost * manifest.rows || failing === manifest.rows) {
      const error = expectationsFailed(validation, manifest.name);
      throw new MillraceError(
        'EXPECTATIONS_FAILED',
        `${failing} of ${manifest.rows} rows of ${manifest.name} would be quarantined; at most a share of ${atMost} may be.`,
        {
          problems: error.problems,
        },
      );
    }
    const list = manifest.columns.map(({ name }) => identifier(name)).join(', ');
    const why = broken.map(({ name, bad }) => `CASE WHEN ${bad} THEN ${textLiteral(name)} END`).join(', ');
    const write = (sql: string) => writeSnapshot(db, artifacts, sql, { filtered: true, whenEmpty: () => new MillraceError('INTERNAL') });
    const kept = await write(`SELECT ${list} FROM ${relation} WHERE NOT ${any}`);
    const aside = await write(`SELECT ${list}, concat_ws(', ', ${why}) AS ${identifier(FAILED_EXPECTATIONS)} FROM ${relation} WHERE ${any}`);
    return {
      validation,
      kept: await storeManifest(artifacts, { ...manifest, rows: kept.rows, files: [kept], profile: null, parents: [id] }),
      quarantined: await storeManifest(artifacts, {
        ...manifest,
        name: `${manifest.name}-quarantine`,
        rows: aside.rows,
        files: [aside],
        columns: [...manifest.columns, { name: FAILED_EXPECTATIONS, type: 'string' }],
        unserved: { ...manifest.unserved, [FAILED_EXPECTATIONS]: 'the quarantine' },
        profile: null,
        parents: [id],
      }),
    };
  });
}
