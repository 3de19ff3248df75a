import { MillraceError } from '../contracts/errors.ts';
import type { PersonalDataRule } from '../contracts/personal-data.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { DatasetManifest, Increment } from '../contracts/references.ts';
import type { Source } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type StoredDataset, refuseReservedNames, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, DuckDbFailure, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { ROW_NUMBER, ROW_RANK, rankBound, rankedRows } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { goldenCondition, type GoldenRule, writeGolden } from './golden.ts';
import {
  aboveWatermark,
  alignedToBase,
  columnsDiffer,
  type IncrementBase,
  type IncrementRule,
  type NewFiles,
  newFiles,
  rowsAbove,
  typedAsBase,
} from './increment.ts';
import { type OpenedSource, openAnySource } from './open-source.ts';
import { planPersonalData } from './personal-data.ts';
import type { SourceAccess } from './source-access.ts';
import type { SourceRelation } from './source-relation.ts';
import { identifier } from './sql-text.ts';

export interface IngestOptions extends DuckDbOptions, SourceAccess {
  readonly source: Source;
  /** The dataset's name. */
  readonly name: string;
  /** Personal columns of the source, and what is done to them before all else. Default: none. */
  readonly pii?: Readonly<Record<string, PersonalDataRule>>;
  /** Applied in order, in the same pass that writes the snapshot: what they hash or drop is never on disk. */
  readonly transforms?: readonly RowTransform[];
  readonly artifacts: ArtifactPort;
  /** The project's key for hashed columns. Needed where a transform hashes. */
  readonly hashKey?: string;
  /** At most this many of the source's rows, drawn by `seed`, in the source's order. Default: all. */
  readonly sampleRows?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Rows to set aside, in a snapshot of their own. Default: none. */
  readonly golden?: GoldenRule;
  /** Go on from a snapshot: read only what is new since then. `settings`: see `incrementSettings`. */
  readonly increment?: { readonly rule: IncrementRule; readonly settings: string; readonly base?: IncrementBase };
  /** Called while the source comes from elsewhere, with what is waited for: a file's label, a number of rows. */
  readonly onFetch?: (what: string) => void;
}

export interface IngestedDataset extends StoredDataset {
  /** Rows that this ingest added to its base; null where it had none. */
  readonly added: number | null;
  /** The rows that were set aside. */
  readonly golden: StoredDataset | null;
  /** What people should know of how the source was read. */
  readonly notes: readonly string[];
}

type Ingested = Omit<IngestedDataset, 'notes'>;

/**
 * Reads a source into an immutable snapshot and stores its manifest. The same content, settings and seed give the same
 * bytes, whatever the number of threads. Memory does not grow with the data. The manifest's profile is null: `validate`
 * fills it in the scan that checks expectations.
 * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_MALFORMED (with file, row, column), SOURCE_EMPTY, SPLIT_IMPOSSIBLE, COLUMN_TYPE, COLUMN_MISSING, DISK_FULL, OUT_OF_MEMORY
 */
export async function ingestSource(options: IngestOptions): Promise<IngestedDataset> {
  return withDuckDb(options, async (db) => {
    const { rule, base } = options.increment ?? {};
    const found = rule?.by === 'files' ? await newFiles(options.source, base, options, options.signal) : undefined;
    try {
      if (base !== undefined && found?.files.length === 0) return { ...unchanged(options, base), notes: goneNotes(found) };
      const opened = await openIncrement(db, options, found);
      try {
        return { ...(await ingestOpened(db, opened, options, found)), notes: [...opened.notes, ...goneNotes(found)] };
      } catch (error) {
        // A file that is written to while it is read looks damaged: that it changed is the better news.
        if (error instanceof DuckDbFailure) await opened.refuseChanged();
        throw await opened.explain(error);
      } finally {
        await opened.close();
      }
    } finally {
      found?.close();
    }
  });
}

/** The source, or what is new of it, in the columns of what it extends. */
async function openIncrement(db: DuckDb, options: IngestOptions, found: NewFiles | undefined): Promise<OpenedSource> {
  const { source } = options;
  const { rule, base } = options.increment ?? {};
  const above = aboveWatermark(rule, base);
  const how = { ...options, ...(found === undefined ? {} : { files: found.files }), ...(above === undefined ? {} : { above }) };
  if (base === undefined) return openAnySource(db, source, options, how);
  const opened = await openAnySource(db, typedAsBase(source, base), options, how).catch((error: unknown) => {
    // Types were stated of the base's columns.
    const gone = error instanceof MillraceError && error.code === 'COLUMN_MISSING' ? error.problems.flatMap(({ found: name }) => name ?? []) : [];
    throw gone.length > 0 ? columnsDiffer(gone, []) : error;
  });
  try {
    return { ...opened, ...(await alignedToBase(db, opened, base, source.format)) };
  } catch (error) {
    const explained = await opened.explain(error);
    await opened.close();
    throw explained;
  }
}

function goneNotes(found: NewFiles | undefined): readonly string[] {
  const [first, ...others] = found?.gone ?? [];
  if (first === undefined) return [];
  return [
    `${first}${others.length === 0 ? '' : ` and ${others.length} more files`} that ${others.length === 0 ? 'was' : 'were'} read before ${others.length === 0 ? 'is' : 'are'} gone`,
  ];
}

/** The base itself, where nothing is new. */
function unchanged({ name }: IngestOptions, { id, manifest, golden }: IncrementBase): Ingested {
  const stored = (of: { readonly id: string; readonly manifest: DatasetManifest }, named: string): StoredDataset => ({
    ref: { kind: 'dataset', id: of.id, name: named, rows: of.manifest.rows },
    manifest: of.manifest,
  });
  return { ...stored({ id, manifest }, name), golden: golden === null ? null : stored(golden, golden.manifest.name), added: 0 };
}

async function ingestOpened(db: DuckDb, source: OpenedSource, options: IngestOptions, found: NewFiles | undefined): Promise<Ingested> {
  const { name, artifacts, hashKey, sampleRows, seed = 0, increment } = options;
  const { columns: rawColumns } = source;
  refuseReservedNames(rawColumns);
  const watermark = increment?.rule.by === 'watermark' ? increment.rule.column : undefined;
  const personal = planPersonalData(options.pii ?? {}, rawColumns, options.transforms ?? [], watermark);
  const transforms = [...personal.transforms, ...(options.transforms ?? [])];
  const base = increment?.base;
  if (hashKey !== undefined) await bindHashKey(db, hashKey);
  const above = increment?.rule.by === 'watermark' ? await rowsAbove(db, source, increment.rule.column, base) : undefined;
  if (base !== undefined && above?.rows === 0) {
    await source.refuseChanged();
    return unchanged(options, base);
  }
  const opened = { sql: above?.sql ?? source.sql, columns: rawColumns };
  const sampled = sampleRows === undefined ? opened.sql : await sampledRelation(db, opened, sampleRows, seed);
  const reserved = options.golden === undefined ? undefined : goldenCondition(rawColumns, options.golden);
  const rest = reserved === undefined ? sampled : `(SELECT * FROM ${sampled} WHERE NOT ${reserved})`;
  const { sql, columns } = transformedRelation(rest, transforms, rawColumns);
  const list = columns.map((column) => identifier(column.name)).join(', ');
  const empty = new MillraceError(
    'SOURCE_EMPTY',
    transforms.some(({ kind }) => kind === 'keep') ? 'The source has no rows that the transforms keep.' : 'The source has columns but no rows.',
  );
  const written = await writeSnapshot(db, artifacts, `SELECT ${list} FROM ${sql}`, {
    filtered: rest !== source.sql || transforms.some(({ kind }) => kind === 'keep'),
    whenEmpty: () => empty,
  }).catch((error: unknown) => {
    // All that is new may have been set aside, or not kept.
    if (error === empty && base !== undefined) return undefined;
    throw error;
  });
  // The source is read a second time for the golden rows: what transforms hash or drop may not lie on disk meanwhile.
  const before = base?.golden;
  const reservedRows =
    reserved === undefined
      ? null
      : await writeGolden(db, artifacts, {
          relation: sampled,
          condition: reserved,
          columns: rawColumns,
          transforms,
          name,
          sensitive: personal.sensitive,
          ...(before ? { before } : {}),
        });
  if (reserved !== undefined && reservedRows === null)
    throw new MillraceError('SPLIT_IMPOSSIBLE', `None of the ${written?.rows ?? 0} rows falls to the golden set.`, {
      fix: 'Give more rows, or a greater fraction.',
    });
  await source.refuseChanged();
  const golden =
    base !== undefined && reservedRows !== null && reservedRows.ref.rows === before?.manifest.rows ? unchanged(options, base).golden : reservedRows;
  const parts = [...(base?.manifest.files ?? []), ...(written === undefined ? [] : [written])];
  const stored = await storeManifest(artifacts, {
    format: 'millrace-dataset/1',
    name,
    rows: parts.reduce((sum, part) => sum + part.rows, 0),
    columns: columns.map((column) => ({ name: column.name, type: column.type })),
    files: parts,
    transforms,
    rawColumns: rawColumns.map((column) => ({ name: column.name, type: column.type })),
    profile: null,
    parents: base === undefined ? [] : [base.id],
    sensitive: personal.sensitive,
    golden: golden?.ref.id ?? null,
    ...(increment === undefined ? {} : { increment: incrementOf(increment, above?.value ?? null, found) }),
  });
  return { ...stored, golden, added: base === undefined ? null : (written?.rows ?? 0) };
}

function incrementOf({ rule, settings }: NonNullable<IngestOptions['increment']>, value: string | null, found: NewFiles | undefined): Increment {
  return rule.by === 'watermark' ? { by: 'watermark', settings, column: rule.column, value } : { by: 'files', settings, files: found?.read ?? [] };
}

/** The sample as a relation. The source is read twice: once for its number of rows, which Parquet knows without reading. */
async function sampledRelation(db: DuckDb, opened: SourceRelation, sampleRows: number, seed: number): Promise<string> {
  const { n } = await db.row(`SELECT count(*) AS n FROM ${opened.sql}`);
  const rows = toCount(n);
  if (rows <= sampleRows) return opened.sql;
  const names = opened.columns.map(({ name }) => name);
  const numbered = `(SELECT *, row_number() OVER () - 1 AS ${ROW_NUMBER} FROM ${opened.sql})`;
  return `(SELECT ${names.map(identifier).join(', ')} FROM ${rankedRows(numbered, names, seed)} WHERE ${ROW_RANK} < ${rankBound(rows, seed, sampleRows)})`;
}
