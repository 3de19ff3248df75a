/** A source as a DuckDB relation whose columns have canonical types, checked before it is read. */
import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { dirname, basename } from 'node:path/posix';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { FileSource, Source } from '../contracts/source.ts';
import type { DuckDb } from './duckdb.ts';
import { malformed, sourceError } from './source-errors.ts';
import type { SourceFile } from './source-files.ts';
import { canonicalColumn, columnTypeOf, DUCKDB_TYPE, identifier, listLiteral, textLiteral } from './sql-text.ts';

export interface SourceRelation {
  /** A sub-select in parentheses: the columns in canonical types, rows in file order. */
  readonly sql: string;
  readonly columns: readonly Column[];
}

const HEAD_BYTES = 1 << 20;
const SAMPLE_ROWS = 20_480;
const compressed = (file: SourceFile): boolean => /\.(?:gz|zst)$/.test(file.path);

/**
 * Prepares a source for reading.
 * @throws MillraceError SOURCE_MALFORMED, SOURCE_EMPTY, COLUMN_TYPE, COLUMN_MISSING
 */
export async function openSource(db: DuckDb, source: FileSource, files: readonly SourceFile[], signal?: AbortSignal): Promise<SourceRelation> {
  const full = files.filter(({ sizeBytes }) => sizeBytes > 0);
  if (full.length === 0 && source.format !== 'text')
    throw new MillraceError('SOURCE_EMPTY', files.length === 1 ? `The file ${files[0]?.label ?? ''} is empty.` : 'All files of the source are empty.');
  try {
    switch (source.format) {
      case 'parquet':
        await refuseDuplicateParquetColumns(db, full);
        return await canonicalRelation(db, `read_parquet(${pathList(full)}, binary_as_string = true)`);
      case 'csv':
        return await openCsv(db, source, full, signal);
      case 'jsonl':
        await refuseNul(full, signal);
        return await openJson(db, source, full);
      case 'text':
        return await openText(db, source, files, signal);
    }
  } catch (error) {
    throw sourceError(error, files);
  }
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

/** NUL bytes end texts in many programs and mean null in a model's inputs: they are refused, with their place. */
async function refuseNul(files: readonly SourceFile[], signal: AbortSignal | undefined): Promise<void> {
  for (const file of files) {
    if (compressed(file)) continue;
    let offset = 0;
    for await (const data of createReadStream(file.path, { highWaterMark: 1 << 20, ...(signal === undefined ? {} : { signal }) })) {
      const at = (data as Buffer).indexOf(0);
      if (at !== -1) {
        const row = await rowAt(file, offset + at);
        throw malformed('The file holds NUL bytes', {
          file: file.label,
          row,
          fix: "Remove them; if the file is UTF-16, name the encoding of the source: encoding: 'utf-16'.",
        });
      }
      offset += (data as Buffer).length;
    }
  }
}

/** The line that a byte stands in. Lines are counted only when there is something to report. */
async function rowAt(file: SourceFile, byteOffset: number): Promise<number> {
  if (byteOffset === 0) return 1;
  let row = 1;
  for await (const data of createReadStream(file.path, { end: byteOffset - 1 })) {
    const chunk = data as Buffer;
    for (let next = chunk.indexOf(10); next !== -1; next = chunk.indexOf(10, next + 1)) row++;
  }
  return row;
}

async function headOf(file: SourceFile, encoding: string | undefined): Promise<string> {
  const handle = await open(file.path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.min(HEAD_BYTES, file.sizeBytes)), 0);
    const bytes = buffer.subarray(0, bytesRead);
    const text = new TextDecoder(encoding === 'utf-16' ? 'utf-16le' : encoding === 'latin-1' ? 'latin1' : 'utf-8').decode(bytes, { stream: true });
    return text.replace(/^\ufeff/, '');
  } finally {
    await handle.close();
  }
}

/** The fields of the first record, with quotes taken off; undefined where it does not end in what was read. */
function firstRecord(head: string, delimiter: string): readonly string[] {
  const fields: string[] = [];
  let field = '';
  let quoted = false;
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
    } else if (sign === '\n' || sign === '\r') break;
    else field += sign;
  }
  return [...fields, field];
}

const DELIMITERS = [',', '\t', ';', '|'] as const;
const likelyDelimiter = (head: string): string =>
  DELIMITERS.reduce<string>((best, delimiter) => (firstRecord(head, delimiter).length > firstRecord(head, best).length ? delimiter : best), ',');

type CsvSource = Source & { format: 'csv' };

async function openCsv(db: DuckDb, source: CsvSource, files: readonly SourceFile[], signal: AbortSignal | undefined): Promise<SourceRelation> {
  if (source.encoding !== 'utf-16') await refuseNul(files, signal);
  const first = files.find((file) => !compressed(file));
  const head = first === undefined ? undefined : await headOf(first, source.encoding);
  const delimiter = source.delimiter ?? (head === undefined ? undefined : likelyDelimiter(head));
  const named = typeof source.header === 'object' ? source.header : undefined;
  const header = named === undefined ? (source.header ?? true) : false;
  if (first !== undefined && head !== undefined && delimiter !== undefined && header === true) refuseDuplicates(firstRecord(head, delimiter), first);
  if (named !== undefined && first !== undefined) refuseDuplicates(named, first);
  const options = [
    ...(delimiter === undefined ? [] : [`delim = ${textLiteral(delimiter)}`]),
    `quote = '"', escape = '"', header = ${String(header)}, skip = 0, comment = '', strict_mode = true, null_padding = false, sample_size = ${SAMPLE_ROWS}`,
    ...(named === undefined ? [] : [`names = ${listLiteral(named.map(textLiteral))}`]),
    ...(source.nullValues === undefined ? [] : [`nullstr = ${listLiteral(['', ...source.nullValues.filter((value) => value !== '')].map(textLiteral))}`]),
    ...(source.encoding === undefined ? [] : [`encoding = ${textLiteral(source.encoding)}`]),
  ];
  const plain = `read_csv(${pathList(files)}, ${options.join(', ')}`;
  try {
    return await canonicalRelation(db, await withTypes(db, plain, source.types));
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    await diagnoseCsv(db, source, files, head, delimiter);
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
      fix: `Use one of: ${names.join(', ')}.`,
    })),
  });
}

/** DuckDB's sniffer says only that it found no dialect. Read as plain texts with the header's columns, the reader names the row. */
async function diagnoseCsv(
  db: DuckDb,
  source: CsvSource,
  files: readonly SourceFile[],
  head: string | undefined,
  delimiter: string | undefined,
): Promise<void> {
  if (head === undefined || delimiter === undefined) return;
  const fields = firstRecord(head, delimiter);
  const columns = fields.map((_, index) => `'c${index}': 'VARCHAR'`).join(', ');
  const encoding = source.encoding === undefined ? '' : `, encoding = ${textLiteral(source.encoding)}`;
  for (const file of files) {
    try {
      await db.rows(
        `SELECT count(*) FROM read_csv(${textLiteral(file.path)}, auto_detect = false, columns = {${columns}}, delim = ${textLiteral(delimiter)}, quote = '"', escape = '"', header = false, strict_mode = true, null_padding = false${encoding})`,
      );
    } catch (error) {
      throw sourceError(error, [file]);
    }
  }
}

async function openJson(db: DuckDb, source: Source & { format: 'jsonl' }, files: readonly SourceFile[]): Promise<SourceRelation> {
  const open = `read_json(${pathList(files)}, format = 'auto', records = true, union_by_name = true, sample_size = ${SAMPLE_ROWS}`;
  if (await isBlank(files)) throw new MillraceError('SOURCE_EMPTY', 'The source holds no JSON object.');
  const described = await describe(db, `${open})`);
  const [only] = described;
  if (described.length === 1 && only?.name === 'json' && only.type === 'JSON') {
    throw malformed('The lines are not JSON objects', {
      ...(files.length === 1 && files[0] !== undefined ? { file: files[0].label } : {}),
      fix: 'Write one object a line, its keys the columns.',
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
  return canonicalRelation(db, `read_json(${pathList(files)}, format = 'auto', records = true, columns = {${columns.join(', ')}})`);
}

async function isBlank(files: readonly SourceFile[]): Promise<boolean> {
  for (const file of files) {
    if (compressed(file) || (await headOf(file, undefined)).trim() !== '') return false;
  }
  return true;
}

const TEXT_TABLE = 'millrace_text';
const TEXT_BATCH = 64;

/** One row a file. Files are read here and not by DuckDB, because of encodings; the table spills to disk when it grows. */
async function openText(
  db: DuckDb,
  source: Source & { format: 'text' },
  files: readonly SourceFile[],
  signal: AbortSignal | undefined,
): Promise<SourceRelation> {
  await db.run(`CREATE TEMPORARY TABLE ${TEXT_TABLE} (path VARCHAR, folder VARCHAR, text VARCHAR)`);
  const appender = await db.connection.createAppender(TEXT_TABLE);
  try {
    for (let start = 0; start < files.length; start += TEXT_BATCH) {
      signal?.throwIfAborted();
      const batch = files.slice(start, start + TEXT_BATCH);
      const texts = await Promise.all(batch.map(async (file) => decodeText(await readFile(file.path), file, source.encoding)));
      batch.forEach((file, index) => {
        appender.appendVarchar(file.relativePath);
        appender.appendVarchar(basename(dirname(file.label)));
        appender.appendVarchar(texts[index] ?? '');
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
  };
}

function decodeText(bytes: Buffer, file: SourceFile, encoding: 'utf-8' | 'latin-1' | undefined): string {
  const nul = bytes.indexOf(0);
  if (nul !== -1) {
    const row = bytes.subarray(0, nul).toString('latin1').split('\n').length;
    throw malformed('The file holds NUL bytes', { file: file.label, row, fix: 'Leave the file out by a narrower glob, or remove the bytes.' });
  }
  if (encoding === 'latin-1') return bytes.toString('latin1');
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw malformed('The text is not UTF-8', { file: file.label, fix: "Name the encoding of the source: encoding: 'latin-1'." });
  }
}
