/** A source as a DuckDB relation whose columns have canonical types, checked before it is read. */
import { dirname, basename } from 'node:path/posix';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { FileSource } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import type { DuckDb } from './duckdb.ts';
import { findLongRow, headOf, lineAt, type ReadableFiles, type ReadableOptions, readableFiles, readText, refuseOpenQuote } from './readable-files.ts';
import { isTooLong, malformed, OTHER_TYPE, sourceError } from './source-errors.ts';
import type { SourceFile } from './source-files.ts';
import { canonicalColumn, columnTypeOf, DUCKDB_TYPE, identifier, listLiteral, textLiteral } from './sql-text.ts';

export interface SourceRelation {
  /** A sub-select in parentheses: the columns in canonical types, rows in file order. */
  readonly sql: string;
  readonly columns: readonly Column[];
}

/** A source of files, opened. */
export interface OpenedFiles extends SourceRelation {
  /** What people should know of how it is read. */
  readonly notes: readonly string[];
  /** What a failure while reading means, with its place. */
  readonly explain: (error: unknown) => Promise<unknown>;
  /** Removes temporary files. */
  readonly close: () => Promise<void>;
}

export interface OpenFilesOptions {
  readonly artifacts: Pick<ArtifactPort, 'temporaryFile'>;
  readonly signal?: AbortSignal;
}

type TextSource = Exclude<FileSource, { readonly format: 'parquet' }>;
type RowsOfText = Exclude<TextSource, { readonly format: 'text' }>;
type CsvSource = Extract<FileSource, { readonly format: 'csv' | 'tsv' }>;
type JsonSource = Extract<FileSource, { readonly format: 'json' | 'jsonl' }>;

const SAMPLE_ROWS = 20_480;
const MAX_CSV_ROW_BYTES = 2_000_000;
const MAX_JSON_OBJECT_BYTES = 16 * 1024 ** 2;
const NOTHING_TO_CLOSE = (): Promise<void> => Promise.resolve();

/**
 * Prepares a source for reading.
 * @throws MillraceError SOURCE_MALFORMED, SOURCE_EMPTY, COLUMN_TYPE, COLUMN_MISSING
 */
export async function openSource(db: DuckDb, source: FileSource, files: readonly SourceFile[], options: OpenFilesOptions): Promise<OpenedFiles> {
  const full = files.filter(({ sizeBytes }) => sizeBytes > 0);
  if (full.length === 0 && source.format !== 'text')
    throw new MillraceError('SOURCE_EMPTY', files.length === 1 ? `The file ${files[0]?.label ?? ''} is empty.` : 'All files of the source are empty.');
  if (source.format === 'parquet') {
    const explain = (error: unknown): Promise<unknown> => Promise.resolve(sourceError(error, files));
    try {
      await refuseDuplicateParquetColumns(db, full);
      return { ...(await canonicalRelation(db, `read_parquet(${pathList(full)}, binary_as_string = true)`)), notes: [], explain, close: NOTHING_TO_CLOSE };
    } catch (error) {
      throw await explain(error);
    }
  }
  const reading = readingOf(source, options);
  if (source.format === 'text') {
    const { notes, ...relation } = await openText(db, files, reading, options.signal);
    return { ...relation, notes, explain: (error) => Promise.resolve(sourceError(error, files)), close: NOTHING_TO_CLOSE };
  }
  const readable = await readableFiles(db, full, reading);
  const explain = explainer(db, source, readable, reading);
  try {
    const opened =
      source.format === 'csv' || source.format === 'tsv'
        ? await openCsv(db, source, readable.files, reading)
        : await openJson(db, source, readable.files, reading);
    return { ...opened, notes: readable.notes, explain, close: readable.close };
  } catch (error) {
    const explained = await explain(error);
    await readable.close();
    throw explained;
  }
}

function readingOf(source: TextSource, { artifacts, signal }: OpenFilesOptions): ReadableOptions {
  const { encoding, maxUnpackedBytes } = source;
  return {
    artifacts,
    ...(encoding === undefined ? {} : { encoding }),
    ...(maxUnpackedBytes === undefined ? {} : { maxUnpackedBytes }),
    ...(signal === undefined ? {} : { signal }),
    ...(source.format === 'csv' || source.format === 'tsv' ? { columnOf: columnAt(source) } : {}),
    // DuckDB takes a byte order mark before an array for something that is no JSON.
    ...(source.format === 'json' || source.format === 'jsonl' ? { withoutMark: true } : {}),
  };
}

const columnAt =
  (source: CsvSource) =>
  (firstLine: string, upToPlace: string): string | undefined => {
    const delimiter = delimiterOf(source) ?? likelyDelimiter(firstLine);
    const names = typeof source.header === 'object' ? source.header : source.header === false ? undefined : firstRecord(firstLine, delimiter).fields;
    return names?.[firstRecord(upToPlace, delimiter).fields.length - 1];
  };

const delimiterOf = (source: CsvSource): string | undefined => (source.format === 'tsv' ? '\t' : source.delimiter);
const maxRowBytes = (source: RowsOfText): number =>
  source.maxRowBytes ?? (source.format === 'csv' || source.format === 'tsv' ? MAX_CSV_ROW_BYTES : MAX_JSON_OBJECT_BYTES);

/** DuckDB tells of a row that is too long, but not always of which: the files are looked through for it. */
function explainer(db: DuckDb, source: RowsOfText, readable: ReadableFiles, reading: ReadableOptions): (error: unknown) => Promise<unknown> {
  const { files } = readable;
  return async (error) => {
    if (isTooLong(error)) {
      const separated = source.format === 'csv' || source.format === 'tsv';
      const most = maxRowBytes(source);
      for (const file of files) {
        const delimiter = separated ? (delimiterOf(source) ?? likelyDelimiter(await headOf(db, file, reading))) : undefined;
        const found = await findLongRow(db, file, reading, most, delimiter);
        if (found === undefined) continue;
        const column = separated ? columnAt(source)(found.firstLine, found.upToPlace) : undefined;
        return malformed(`A row is longer than ${most.toLocaleString('en')} bytes`, {
          file: file.label,
          row: found.row,
          ...(column === undefined ? {} : { column }),
          fix: 'Is a quote left open? If the row is as it should be, allow more in the source: maxRowBytes.',
        });
      }
    }
    const explained = sourceError(error, files);
    return source.format === 'jsonl' ? withJsonColumn(db, explained, readable, reading) : explained;
  };
}

/** DuckDB names the line that has a value of another type, not the column: the line is held against the columns' types. */
async function withJsonColumn(db: DuckDb, error: unknown, { files }: ReadableFiles, reading: ReadableOptions): Promise<unknown> {
  if (!(error instanceof MillraceError) || error.code !== 'SOURCE_MALFORMED') return error;
  const [problem] = error.problems;
  const file = files.find(({ label }) => label === problem?.file);
  if (problem?.row === undefined || problem.column !== undefined || file === undefined || !OTHER_TYPE.test(problem.message)) return error;
  const line = await lineAt(db, file, reading, problem.row);
  const types = await describe(db, `read_json(${textLiteral(file.path)}, format = 'newline_delimited', records = true, sample_size = ${SAMPLE_ROWS})`);
  const column = line === undefined ? undefined : misfit(line, types);
  if (column === undefined) return error;
  const { message, row, found, fix } = problem;
  return malformed(message, { file: file.label, row, column, ...(found === undefined ? {} : { found }), ...(fix === undefined ? {} : { fix }) });
}

function misfit(line: string, types: readonly { readonly name: string; readonly type: string }[]): string | undefined {
  let object: Readonly<Record<string, unknown>>;
  try {
    object = JSON.parse(line) as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
  return types.find(({ name, type }) => {
    const value = object[name];
    if (value === null || value === undefined) return false;
    const wanted = columnTypeOf(type);
    if (wanted === 'number' || wanted === 'integer')
      return typeof value !== 'number' && !(typeof value === 'string' && Number.isFinite(Number(value)) && value.trim() !== '');
    return wanted === 'boolean' && typeof value !== 'boolean';
  })?.name;
}

const pathList = (files: readonly SourceFile[]): string => listLiteral(files.map(({ path }) => textLiteral(path)));

async function describe(db: DuckDb, relation: string): Promise<readonly { readonly name: string; readonly type: string }[]> {
  const rows = await db.rows(`DESCRIBE SELECT * FROM ${relation}`);
  return rows.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }));
}

/** Any relation with its columns in canonical types. @throws MillraceError COLUMN_TYPE where a column has no such type */
export async function canonicalRelation(db: DuckDb, relation: string): Promise<SourceRelation> {
  const described = await describe(db, relation);
  const problems: Problem[] = [];
  const columns: Column[] = [];
  const list = described.map(({ name, type }) => {
    const columnType = columnTypeOf(type);
    if (columnType === undefined) {
      problems.push({
        path: 'source',
        column: name,
        message: `A column of type ${type} cannot be used.`,
        found: type,
        fix: 'Leave the column out of the file, or write it as text.',
      });
      return identifier(name);
    }
    columns.push({ name, type: columnType });
    return `${canonicalColumn(name, type, columnType)} AS ${identifier(name)}`;
  });
  if (problems.length > 0) throw new MillraceError('COLUMN_TYPE', 'The source has columns of types that cannot be used.', { problems });
  return { sql: `(SELECT ${list.join(', ')} FROM ${relation})`, columns };
}

function refuseDuplicates(names: readonly string[], file: SourceFile): void {
  const seen = new Map<string, string>();
  const problems: Problem[] = [];
  for (const name of names) {
    const earlier = seen.get(name.toLowerCase());
    if (earlier !== undefined) {
      const message = earlier === name ? `The column name ${name} occurs twice.` : `The column names ${earlier} and ${name} differ only in case.`;
      problems.push({ path: 'source', file: file.label, column: name, message, found: name, fix: 'Give each column a name of its own.' });
    }
    seen.set(name.toLowerCase(), name);
  }
  if (problems.length > 0) {
    throw new MillraceError('SOURCE_MALFORMED', `The file ${file.label} names columns twice: ${problems.map(({ column }) => column).join(', ')}.`, {
      problems,
      fix: 'Give each column a name of its own.',
    });
  }
}

async function refuseDuplicateParquetColumns(db: DuckDb, files: readonly SourceFile[]): Promise<void> {
  const [file] = files;
  if (file === undefined) return;
  const rows = await db.rows(`SELECT name, num_children FROM parquet_schema(${textLiteral(file.path)})`);
  // The schema is a tree in depth-first order, and its first row the root: only the root's children are columns.
  let index = 1;
  const skip = (children: number): void => {
    for (let child = 0; child < children; child++) skip(Number(rows[index++]?.['num_children'] ?? 0));
  };
  const names: string[] = [];
  while (index < rows.length) {
    names.push(String(rows[index]?.['name']));
    skip(Number(rows[index++]?.['num_children'] ?? 0));
  }
  refuseDuplicates(names, file);
}

/** The fields of the first record, with quotes taken off, and how its line ends. */
function firstRecord(head: string, delimiter: string): { readonly fields: readonly string[]; readonly lineEnd: '\n' | '\r\n' | '\r' } {
  const fields: string[] = [];
  let field = '';
  let quoted = false;
  let lineEnd: '\n' | '\r\n' | '\r' = '\n';
  for (let i = 0; i < head.length; i++) {
    const sign = head.charAt(i);
    if (quoted) {
      if (sign !== '"') field += sign;
      else if (head.charAt(i + 1) === '"') {
        field += '"';
        i++;
      } else quoted = false;
    } else if (sign === '"' && field === '') quoted = true;
    else if (sign === delimiter) {
      fields.push(field);
      field = '';
    } else if (sign === '\n' || sign === '\r') {
      lineEnd = sign === '\n' ? '\n' : head.charAt(i + 1) === '\n' ? '\r\n' : '\r';
      break;
    } else field += sign;
  }
  return { fields: [...fields, field], lineEnd };
}

const DELIMITERS = [',', '\t', ';', '|'] as const;
const likelyDelimiter = (head: string): string =>
  DELIMITERS.reduce<string>((best, delimiter) => (firstRecord(head, delimiter).fields.length > firstRecord(head, best).fields.length ? delimiter : best), ',');

async function openCsv(db: DuckDb, source: CsvSource, files: readonly SourceFile[], reading: ReadableOptions): Promise<SourceRelation> {
  const [first] = files;
  const head = first === undefined ? '' : await headOf(db, first, reading);
  const delimiter = delimiterOf(source) ?? likelyDelimiter(head);
  const named = typeof source.header === 'object' ? source.header : undefined;
  const header = typeof source.header === 'object' ? false : (source.header ?? true);
  const { fields: names, lineEnd } = firstRecord(head, delimiter);
  if (first !== undefined) refuseDuplicates(named ?? (header ? names.map((name) => name.trim()) : []), first);
  for (const file of files) await refuseOpenQuote(db, file, reading, delimiter);
  // In parallel, DuckDB 1.5 loses rows: a thread that begins in the middle of the file takes a row that does not fit for
  // the end of the one before, and leaves it out without a word.
  const dialect = `parallel = false, delim = ${textLiteral(delimiter)}, quote = '"', escape = '"', strict_mode = true, null_padding = false, max_line_size = ${maxRowBytes(source)}`;
  const options = [
    `${dialect}, header = ${String(header)}, skip = 0, comment = '', sample_size = ${SAMPLE_ROWS}`,
    // Line ends in the header's names would be taken for those of the file.
    ...(header && lineEnd === '\n' && names.some((name) => name.includes('\r')) ? ["new_line = '\\n'"] : []),
    ...(named === undefined ? [] : [`names = ${listLiteral(named.map(textLiteral))}`]),
    ...(source.nullValues === undefined ? [] : [`nullstr = ${listLiteral(['', ...source.nullValues.filter((value) => value !== '')].map(textLiteral))}`]),
  ];
  const plain = `read_csv(${pathList(files)}, ${options.join(', ')}`;
  try {
    return await canonicalRelation(db, await withTypes(db, plain, source.types));
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    await diagnoseCsv(db, files, names.length, dialect);
    throw error;
  }
}

async function withTypes(db: DuckDb, open: string, types: Readonly<Record<string, ColumnType>> | undefined): Promise<string> {
  if (types === undefined || Object.keys(types).length === 0) return `${open})`;
  const names = (await describe(db, `${open}, all_varchar = true)`)).map(({ name }) => name);
  refuseUnknownTypes(types, names);
  const entries = Object.entries(types).map(([name, type]) => `${textLiteral(name)}: ${textLiteral(DUCKDB_TYPE[type])}`);
  return `${open}, types = {${entries.join(', ')}})`;
}

function refuseUnknownTypes(types: Readonly<Record<string, ColumnType>>, names: readonly string[]): void {
  const unknown = Object.keys(types).filter((name) => !names.includes(name));
  if (unknown.length === 0) return;
  throw new MillraceError('COLUMN_MISSING', 'The source names types of columns that it does not have.', {
    problems: unknown.map((name) => ({
      path: `source.types.${name}`,
      message: `There is no column ${name}.`,
      found: name,
      fix: columnsToUse(names, Object.keys(types)),
    })),
  });
}

/**
 * Which columns may be named instead of those that are missing. Where not one of the names asked for is there, what was
 * taken for the header may be a row of values: it is not shown.
 */
export function columnsToUse(there: readonly string[], asked: readonly string[]): string {
  if (asked.some((name) => there.includes(name))) return `Use one of: ${there.join(', ')}.`;
  return `The first line was taken for the header, and its ${there.length} names are others. For a file without a header say header: false, or give the names: header: ['id', …].`;
}

/** DuckDB's sniffer says only that it found no dialect. Read as plain texts with the header's columns, the reader names the row. */
async function diagnoseCsv(db: DuckDb, files: readonly SourceFile[], fields: number, dialect: string): Promise<void> {
  const columns = Array.from({ length: fields }, (_, index) => `'c${index}': 'VARCHAR'`).join(', ');
  for (const file of files) {
    try {
      await db.rows(`SELECT count(*) FROM read_csv(${textLiteral(file.path)}, auto_detect = false, columns = {${columns}}, header = false, ${dialect})`);
    } catch (error) {
      throw isTooLong(error) ? error : sourceError(error, [file]);
    }
  }
}

async function openJson(db: DuckDb, source: JsonSource, files: readonly SourceFile[], reading: ReadableOptions): Promise<SourceRelation> {
  const size = `maximum_object_size = ${maxRowBytes(source)}`;
  const open = `read_json(${pathList(files)}, format = 'auto', records = true, union_by_name = true, sample_size = ${SAMPLE_ROWS}, ${size}`;
  if (await isBlank(db, files, reading)) throw new MillraceError('SOURCE_EMPTY', 'The source holds no JSON object.');
  const described = await describe(db, `${open})`);
  const [only] = described;
  if (described.length === 1 && only?.name === 'json' && only.type === 'JSON') {
    throw malformed(source.format === 'json' ? 'The file does not hold JSON objects' : 'The lines are not JSON objects', {
      ...(files.length === 1 && files[0] !== undefined ? { file: files[0].label } : {}),
      fix: source.format === 'json' ? 'Write an array of objects, their keys the columns.' : 'Write one object a line, its keys the columns.',
    });
  }
  if (source.types === undefined) return canonicalRelation(db, `${open})`);
  refuseUnknownTypes(
    source.types,
    described.map(({ name }) => name),
  );
  const { types } = source;
  const columns = described.map(({ name, type }) => {
    const wanted = types[name];
    return `${textLiteral(name)}: ${textLiteral(wanted === undefined ? type : DUCKDB_TYPE[wanted])}`;
  });
  return canonicalRelation(db, `read_json(${pathList(files)}, format = 'auto', records = true, ${size}, columns = {${columns.join(', ')}})`);
}

async function isBlank(db: DuckDb, files: readonly SourceFile[], reading: ReadableOptions): Promise<boolean> {
  for (const file of files) {
    if (!/^\s*(?:\[\s*\]\s*)?$/.test(await headOf(db, file, reading))) return false;
  }
  return true;
}

const TEXT_TABLE = 'millrace_text';
const TEXT_BATCH = 64;

/** One row a file. Files are read here and not by DuckDB, because of encodings; the table spills to disk when it grows. */
async function openText(
  db: DuckDb,
  files: readonly SourceFile[],
  reading: ReadableOptions,
  signal: AbortSignal | undefined,
): Promise<SourceRelation & { readonly notes: readonly string[] }> {
  await db.run(`CREATE TEMPORARY TABLE ${TEXT_TABLE} (path VARCHAR, folder VARCHAR, text VARCHAR)`);
  const appender = await db.connection.createAppender(TEXT_TABLE);
  const others = new Map<string, number>();
  try {
    for (let start = 0; start < files.length; start += TEXT_BATCH) {
      signal?.throwIfAborted();
      const batch = files.slice(start, start + TEXT_BATCH);
      const texts = await Promise.all(batch.map((file) => readText(db, file, reading)));
      batch.forEach((file, index) => {
        const { text, encoding } = texts[index] ?? { text: '', encoding: 'utf-8' };
        if (encoding !== 'utf-8') others.set(encoding, (others.get(encoding) ?? 0) + 1);
        appender.appendVarchar(file.relativePath);
        appender.appendVarchar(basename(dirname(file.label)));
        appender.appendVarchar(text);
        appender.endRow();
      });
    }
  } finally {
    appender.closeSync();
  }
  return {
    sql: TEXT_TABLE,
    columns: [
      { name: 'path', type: 'string' },
      { name: 'folder', type: 'string' },
      { name: 'text', type: 'string' },
    ],
    notes:
      reading.encoding === undefined
        ? [...others].map(
            ([encoding, n]) => `${n.toLocaleString('en')} of ${files.length.toLocaleString('en')} files read as ${encoding}, which was found and not named`,
          )
        : [],
  };
}
