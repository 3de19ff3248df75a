/**
 * Incremental ingest: what of a source is new since the snapshot that it extends.
 *
 * Invariants:
 * 1. An extension names its base's files and one new file; nothing is written again. The base stays what it was.
 * 2. What decides the rows beside the source's content (its settings, the transforms, the golden rule) is part of the
 *    increment: other settings never extend.
 * 3. Two ingests that extend one base make two snapshots (or the same one, of the same rows); each is whole by its own
 *    watermark or list of files, so that either can be gone on from.
 * 4. A row without a watermark, and a file that changed after it was read, are refused: nobody could tell whether they
 *    were read.
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../contracts/canonical-json.ts';
import type { Column } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { DatasetManifest, Increment } from '../contracts/references.ts';
import { isFileSource, type Source } from '../contracts/source.ts';
import type { IngestInput } from '../contracts/stages.ts';
import { columnsMissing } from './dataset.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import { fileIdentities } from './fingerprint-source.ts';
import { findFiles, type FoundFile } from './remote-files.ts';
import type { Above, SourceAccess } from './source-access.ts';
import type { SourceRelation } from './source-relation.ts';
import { DUCKDB_TYPE, identifier, textLiteral } from './sql-text.ts';

export type IncrementRule = NonNullable<IngestInput['increment']>;

/** A snapshot that can be extended. */
export interface IncrementBase {
  readonly id: string;
  readonly manifest: DatasetManifest;
  readonly golden: { readonly id: string; readonly manifest: DatasetManifest } | null;
}

/** Hash of all that decides an ingest's rows beside the source's content. */
export function incrementSettings(input: Pick<IngestInput, 'source' | 'pii' | 'transforms' | 'golden' | 'increment'>): string {
  const { source, pii, transforms, golden = null, increment = null } = input;
  return createHash('sha256').update(canonicalJson({ source, pii, transforms, golden, increment })).digest('hex');
}

/** The files of a source that its base has not read. */
export interface NewFiles {
  readonly files: readonly FoundFile[];
  readonly close: () => void;
  /** Labels of files that were read and are there no more. */
  readonly gone: readonly string[];
  /** All files that are read with these. */
  readonly read: Extract<Increment, { by: 'files' }>['files'];
}

/**
 * Finds what is new among a source's files. Files that are gone stay read.
 * @throws MillraceError SOURCE_MALFORMED where a file that was read has other content now; INVALID_PARAMETERS where the source is none of files
 */
export async function newFiles(source: Source, base: IncrementBase | undefined, access: SourceAccess, signal?: AbortSignal): Promise<NewFiles> {
  if (!isFileSource(source))
    throw new MillraceError('INVALID_PARAMETERS', 'An increment by files needs a source that lies in files.', {
      fix: "Use increment: { by: 'watermark', column: '…' }.",
    });
  const { files: found, close } = await findFiles(source, access, signal);
  try {
    const before = base?.manifest.increment;
    const known = new Map(before?.by === 'files' ? before.files.map(({ label, identity }) => [label, identity]) : []);
    // An empty file is one that is about to be written: it is new when it has content.
    const there = found.filter(({ kind, file }) => kind === 'remote' || file.sizeBytes > 0 || source.format === 'text');
    const identities = await fileIdentities(there, access, signal);
    refuseUnknown(there, identities);
    refuseRewritten(there, identities, known);
    const read = new Map(known);
    there.forEach(({ file }, index) => read.set(file.label, identities[index] ?? ''));
    return {
      gone: [...known.keys()].filter((label) => !found.some(({ file }) => file.label === label)),
      files: there.filter(({ file }) => !known.has(file.label)),
      close,
      read: [...read].map(([label, identity]) => ({ label, identity })).sort((a, b) => (a.label < b.label ? -1 : 1)),
    };
  } catch (error) {
    close();
    throw error;
  }
}

function refuseUnknown(files: readonly FoundFile[], identities: readonly (string | null)[]): void {
  const problems = files.flatMap(({ file }, index): Problem[] =>
    identities[index] === null ? [{ path: 'source.path', file: file.label, message: 'Its server tells neither an entity tag nor a time of change' }] : [],
  );
  if (problems.length === 0) return;
  throw new MillraceError('SOURCE_MALFORMED', `Nobody can tell whether these files change: ${problems.map(({ file }) => file).join(', ')}.`, {
    problems,
    fix: 'Ingest them without increment, or by a watermark.',
  });
}

function refuseRewritten(files: readonly FoundFile[], identities: readonly (string | null)[], known: ReadonlyMap<string, string>): void {
  const fix = 'Restore the file, or write what is new to a new one. To read all files again, give the dataset another name.';
  const problems = files.flatMap(({ file }, index): Problem[] => {
    const before = known.get(file.label);
    return before === undefined || before === identities[index]
      ? []
      : [{ path: 'source.path', file: file.label, message: 'It was read before, and has other content now', fix }];
  });
  if (problems.length === 0) return;
  throw new MillraceError('SOURCE_MALFORMED', `Files that were read before have changed: ${problems.map(({ file }) => file).join(', ')}.`, { problems, fix });
}

/** The rows to leave out, for a source that can do so itself. */
export function aboveWatermark(rule: IncrementRule | undefined, base: IncrementBase | undefined): Above | undefined {
  const before = base?.manifest.increment;
  if (rule?.by !== 'watermark' || before?.by !== 'watermark' || before.value === null) return undefined;
  return { column: rule.column, value: before.value };
}

export interface AboveRows {
  readonly sql: string;
  /** The greatest value that was seen, these rows and the base's; null when no row has been. */
  readonly value: string | null;
  readonly rows: number;
}

/**
 * The rows above the base's watermark. Reads the column once.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE, SOURCE_MALFORMED where a row has no value
 */
export async function rowsAbove(db: DuckDb, relation: SourceRelation, column: string, base: IncrementBase | undefined): Promise<AboveRows> {
  return rowsAboveValue(db, relation, column, base?.manifest.increment?.by === 'watermark' ? base.manifest.increment.value : null);
}

/** The same, above the text of a value; null: all rows. */
export async function rowsAboveValue(db: DuckDb, relation: SourceRelation, column: string, before: string | null): Promise<AboveRows> {
  const found = relation.columns.find(({ name }) => name === column);
  if (found === undefined) throw columnsMissing(relation.columns, [column]);
  if (found.type === 'string' || found.type === 'boolean')
    throw new MillraceError('COLUMN_TYPE', `The column ${column} cannot be a watermark: it holds ${found.type === 'string' ? 'texts' : 'truth values'}.`, {
      problems: [{ path: 'increment.column', column, message: 'A watermark is a number, an instant or a date that only grows.', found: found.type }],
    });
  const name = identifier(column);
  const isNew = before === null ? 'true' : `${name} > CAST(${textLiteral(before)} AS ${DUCKDB_TYPE[found.type]})`;
  const { n, missing, greatest } = await db.row(
    `SELECT count(*) FILTER (WHERE ${isNew}) AS n, count(*) FILTER (WHERE ${name} IS NULL) AS missing, CAST(max(${name}) FILTER (WHERE ${isNew}) AS VARCHAR) AS greatest FROM ${relation.sql}`,
  );
  if (toCount(missing) > 0)
    throw new MillraceError('SOURCE_MALFORMED', `${toCount(missing)} rows have no value in the watermark ${column}.`, {
      problems: [
        { path: 'increment.column', column, message: 'Nobody can tell whether a row without a watermark was read', found: `${toCount(missing)} rows` },
      ],
      fix: 'Leave such rows out of the source, fill the column, or take another one.',
    });
  return {
    sql: before === null ? relation.sql : `(SELECT * FROM ${relation.sql} WHERE ${isNew})`,
    value: typeof greatest === 'string' ? greatest : before,
    rows: toCount(n),
  };
}

/**
 * The source with the types that its base has: a few rows of CSV may look like another type than all did. Values of JSON
 * say themselves what they are, and a few objects need not have every key.
 */
export function typedAsBase(source: Source, base: IncrementBase): Source {
  if (source.format === 'csv' || source.format === 'tsv')
    return { ...source, types: Object.fromEntries(base.manifest.rawColumns.map(({ name, type }) => [name, type])) };
  if (source.format !== 'json' && source.format !== 'jsonl') return source;
  const { types: _ofAll, ...rest } = source;
  return rest;
}

/** Sources of which a row need not name every column. */
const SPARSE: ReadonlySet<Source['format']> = new Set(['json', 'jsonl', 'predictions']);

/**
 * New rows in the columns and types of the base.
 * @throws MillraceError COLUMN_MISSING where columns came or went, COLUMN_TYPE where a value does not fit
 */
export async function alignedToBase(db: DuckDb, relation: SourceRelation, base: IncrementBase, format: Source['format']): Promise<SourceRelation> {
  const { rawColumns } = base.manifest;
  const gone = rawColumns.filter(({ name }) => !relation.columns.some((column) => column.name === name)).map(({ name }) => name);
  const come = relation.columns.filter(({ name }) => !rawColumns.some((column) => column.name === name)).map(({ name }) => name);
  const nulls = new Set(SPARSE.has(format) ? gone : []);
  if (come.length > 0 || (gone.length > 0 && nulls.size === 0)) throw columnsDiffer(nulls.size > 0 ? [] : gone, come);
  const different = rawColumns.flatMap((column): (Column & { readonly from: string })[] => {
    const now = relation.columns.find(({ name }) => name === column.name);
    return now === undefined || now.type === column.type ? [] : [{ ...column, from: now.type }];
  });
  const cast = ({ name, type }: Column): string => `TRY_CAST(CAST(${identifier(name)} AS VARCHAR) AS ${DUCKDB_TYPE[type]})`;
  if (different.length > 0) {
    const counts = await db.row(
      `SELECT ${different.map((column, index) => `count(*) FILTER (WHERE ${identifier(column.name)} IS NOT NULL AND (${cast(column)} IS NULL${column.type === 'integer' && column.from === 'number' ? ` OR ${cast(column)} <> ${identifier(column.name)}` : ''})) AS n${index}`).join(', ')} FROM ${relation.sql}`,
    );
    const problems = different.flatMap(({ name, type, from }, index): Problem[] =>
      toCount(counts[`n${index}`]) === 0
        ? []
        : [{ path: 'source', column: name, message: `New values are of the type ${from}, earlier ones of the type ${type}`, found: from }],
    );
    if (problems.length > 0)
      throw new MillraceError('COLUMN_TYPE', `New rows have other types than those that they extend: ${problems.map(({ column }) => column).join(', ')}.`, {
        problems,
        fix: 'Correct the source; or give the dataset another name, and all is read again.',
      });
  }
  const list = rawColumns.map((column) => {
    const name = identifier(column.name);
    if (nulls.has(column.name)) return `CAST(NULL AS ${DUCKDB_TYPE[column.type]}) AS ${name}`;
    return different.some((other) => other.name === column.name) ? `${cast(column)} AS ${name}` : name;
  });
  return { sql: `(SELECT ${list.join(', ')} FROM ${relation.sql})`, columns: rawColumns };
}

export function columnsDiffer(gone: readonly string[], come: readonly string[]): MillraceError {
  const problems = [
    ...gone.map((column): Problem => ({ path: 'source', column, message: 'The rows that are extended have this column, the new ones do not' })),
    ...come.map((column): Problem => ({ path: 'source', column, message: 'The new rows have this column, those that are extended do not' })),
  ];
  return new MillraceError('COLUMN_MISSING', `New rows have other columns than those that they extend: ${[...gone, ...come].join(', ')}.`, {
    problems,
    fix: 'Correct the source; or give the dataset another name, and all is read again.',
  });
}
