import { MillraceError, type Problem } from '../contracts/errors.ts';
import { DuckDbFailure } from './duckdb.ts';
import type { SourceFile } from './source-files.ts';
import { columnTypeOf } from './sql-text.ts';

/** A value as an error may show it: its shape, not its content, for it may be personal. */
export const maskedValue = (value: string): string =>
  value
    .slice(0, 40)
    .replace(/\p{L}/gu, (letter) => (/\p{Lu}/u.test(letter) ? 'X' : 'x'))
    .replace(/\p{N}/gu, '9') + (value.length > 40 ? '…' : '');

export interface MalformedPlace {
  readonly file?: string;
  readonly row?: number;
  readonly column?: string;
  readonly found?: string;
  readonly fix?: string;
}

/** The error of a source that cannot be parsed, at the place where it cannot. */
export function malformed(message: string, place: MalformedPlace): MillraceError {
  const problem: Problem = { path: 'source', message, ...place };
  const where = [
    place.file,
    place.row === undefined ? undefined : `row ${place.row}`,
    place.column === undefined ? undefined : `column ${place.column}`,
  ].filter((part) => part !== undefined);
  return new MillraceError('SOURCE_MALFORMED', `${message.replace(/\.$/, '')}${where.length > 0 ? ` (${where.join(', ')})` : ''}.`, {
    problems: [problem],
    ...(place.fix === undefined ? {} : { fix: place.fix }),
  });
}

/** What is said of a value whose type is not that of its column. */
export const OTHER_TYPE = /^A value is not of the type that earlier rows had/;

interface Reading {
  readonly pattern: RegExp;
  readonly say: (match: RegExpExecArray) => { readonly message: string; readonly column?: string; readonly found?: string; readonly fix?: string };
}

/** What DuckDB 1.5 says, and what we say of it. The first that matches counts. */
const READINGS: readonly Reading[] = [
  {
    pattern: /Error when converting column "(.+?)"\. Could not convert string "([\s\S]*?)" to '(\w+)'/,
    say: ([, column = '', value = '', type = '']) => ({
      message: `A value is not of the type ${(columnTypeOf(type) ?? 'string').replace('string', 'text')} that the column's earlier rows had`,
      column,
      found: maskedValue(value),
      fix: `Correct the value, or name the column's type in the source: types: { ${JSON.stringify(column)}: 'string' }.`,
    }),
  },
  {
    pattern: /Expected Number of Columns: (\d+) Found: (\d+)/,
    say: ([, expected = '', found = '']) => ({
      message: `The row has ${found} fields, the header has ${expected}`,
      found: `${found} fields`,
      fix: 'Correct the row, quote fields that hold the delimiter, or name the delimiter of the source.',
    }),
  },
  {
    pattern: /Invalid unicode|not utf-8 encoded|invalid UTF-8|Invalid Unicode|not valid UTF-?8/i,
    say: () => ({ message: 'The text is not UTF-8', fix: "Name the encoding of the source ('latin-1' or 'utf-16'), or convert the file to UTF-8." }),
  },
  {
    pattern: /unterminated quote|Value with unterminated quote/i,
    say: () => ({ message: 'A quoted field does not end', fix: 'Close the quote, or double quotes that belong to the text.' }),
  },
  {
    pattern: /unexpected text after quot|quote should be followed/i,
    say: () => ({ message: 'Text follows after a closing quote', fix: 'Double quotes that belong to the text.' }),
  },
  {
    pattern: /Maximum line size of (\d+) bytes exceeded/,
    say: ([, bytes = '']) => ({
      message: `A row is longer than ${Number(bytes).toLocaleString('en')} bytes`,
      fix: 'Is a quote left open? If the row is as it should be, allow more in the source: maxRowBytes.',
    }),
  },
  {
    pattern: /maximum_object_size/,
    say: () => ({
      message: 'A JSON object is larger than it may be',
      fix: 'Write one object a line. If the object is as it should be, allow more in the source: maxRowBytes.',
    }),
  },
  { pattern: /has duplicate key "(.+?)"/, say: ([, column = '']) => ({ message: 'An object names a column twice', column, fix: 'Name each column once.' }) },
  {
    pattern: /Failed to cast value to numerical: "?([\s\S]*?)"?\n|Failed to cast value: (.*)|Expected (?:OBJECT|ARRAY), but got (\w+)/,
    say: ([, value = '']) => ({
      message: 'A value is not of the type that earlier rows had',
      ...(value === '' ? {} : { found: maskedValue(value) }),
      fix: "Correct the value, or name the column's type in the source (types).",
    }),
  },
  {
    pattern: /unknown key|Object .* has unknown key "(.+?)"/i,
    say: ([, column]) => ({
      message: 'An object has a column that earlier rows did not have',
      ...(column === undefined ? {} : { column }),
      fix: 'Give each row the same columns.',
    }),
  },
  {
    pattern: /expected records, but got non-record/,
    say: () => ({ message: 'The lines are not JSON objects', fix: 'Write one object a line, its keys the columns.' }),
  },
  {
    pattern: /Schema mismatch between globbed files|If you are trying to read files with different schemas/,
    say: () => ({ message: 'The files of the source do not have the same columns', fix: 'Narrow the glob to files with the same columns.' }),
  },
  { pattern: /Malformed JSON/, say: () => ({ message: 'The line is not JSON', fix: 'Correct the line.' }) },
  {
    pattern: /No magic bytes found at end of file|Footer length error|too small to be a Parquet file|too small/i,
    say: () => ({ message: 'The file is not a whole Parquet file', fix: 'Is it cut off? Fetch or write it again.' }),
  },
  {
    pattern: /parquet|thrift|TProtocol|snappy|zstd|page header|decompress|Corrupt|Out of buffer|Invalid Input Error|IO Error|Serialization/i,
    say: () => ({ message: 'The file is damaged or has another format than stated', fix: 'Fetch or write it again, or correct the format of the source.' }),
  },
];

/** Whether DuckDB stopped at a row or an object that is longer than it may be. */
export const isTooLong = (error: unknown): boolean => error instanceof DuckDbFailure && /Maximum line size of|maximum_object_size/.test(error.detail);

/** Turns DuckDB's refusal to read source files into a MillraceError that names file, row and column. Other errors pass. */
export function sourceError(error: unknown, files: readonly SourceFile[]): unknown {
  if (!(error instanceof DuckDbFailure)) return error;
  const { detail } = error;
  // Of a mismatch between files the second one is named last, and is the one to look at.
  const named =
    files.filter((file) => detail.includes(file.path)).sort((a, b) => detail.lastIndexOf(b.path) - detail.lastIndexOf(a.path))[0] ??
    (files.length === 1 ? files[0] : undefined);
  const lineText = /CSV Error on Line: (\d+)/.exec(detail)?.[1] ?? /in (?:line|record\/value) (\d+)/.exec(detail)?.[1];
  // Column names and values may hold anything: the file's path must not be read as one of the messages.
  const text = named === undefined ? detail : detail.replaceAll(named.path, 'FILE');
  const reading = READINGS.find(({ pattern }) => pattern.test(text));
  const match = reading?.pattern.exec(text);
  if (reading === undefined || match === undefined || match === null) {
    return new MillraceError('SOURCE_MALFORMED', 'The source could not be read.', { cause: error });
  }
  const { message, ...place } = reading.say(match);
  return malformed(message, {
    ...place,
    ...(named === undefined ? {} : { file: named.label }),
    // A line that does not parse is counted before it is reported: DuckDB names the one after it.
    ...(lineText === undefined ? {} : { row: Number(lineText) - (/Malformed JSON/.test(detail) ? 1 : 0) }),
  });
}
