/** A snapshot's rows as CSV, the way Postgres' COPY reads it: written by DuckDB's threads, file by file. */
import { rm } from 'node:fs/promises';
import type { Column } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { KEY_ESCAPES } from '../contracts/prediction-keys.ts';
import type { Signature } from '../contracts/signature.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { toCount, toText, withDuckDb } from './duckdb.ts';
import type { RankedFile } from './row-rank.ts';
import { identifier, parquetRelation, textLiteral } from './sql-text.ts';

export interface CsvOptions {
  readonly artifacts: ArtifactPort;
  readonly signal: AbortSignal;
}

/** Postgres has no NUL in its texts. */
const withoutNul = ({ name, type }: Column): string =>
  type === 'string' ? `replace(${identifier(name)}, chr(0), '') AS ${identifier(name)}` : identifier(name);

/** Gives each file's rows as a CSV file, which is gone when the next one is asked for. */
async function* csvFiles(files: readonly RankedFile[], columns: string, { artifacts, signal }: CsvOptions): AsyncGenerator<string> {
  for (const { path } of files) {
    const csv = await artifacts.temporaryFile('.csv');
    try {
      await withDuckDb({ signal }, (db) =>
        db.run(
          `COPY (SELECT ${columns} FROM read_parquet(${textLiteral(path)})) TO ${textLiteral(csv)} (FORMAT csv, HEADER false, DELIMITER ',', QUOTE '"', ESCAPE '"')`,
        ),
      );
      yield csv;
    } finally {
      await rm(csv, { force: true });
    }
  }
}

/** All columns, in order. */
export const tableCsv = (files: readonly RankedFile[], columns: readonly Column[], options: CsvOptions): AsyncGenerator<string> =>
  csvFiles(files, columns.map(withoutNul).join(', '), options);

/** A key's text in SQL, as `keyText` of contracts/prediction-keys.ts gives it of a request's values. */
function keyText(columns: readonly Column[]): string {
  const parts = columns.map(({ name, type }) => {
    const column = identifier(name);
    if (type === 'timestamp' || type === 'date') return `CAST(epoch_ms(CAST(${column} AS TIMESTAMP)) AS VARCHAR)`;
    if (type !== 'string') return `CAST(${column} AS VARCHAR)`;
    return KEY_ESCAPES.reduce((sql, [character, code]) => `replace(${sql}, chr(${String(character.charCodeAt(0))}), ${textLiteral(`\\${code}`)})`, column);
  });
  // of one that is null the whole key is
  return parts.join(' || chr(31) || ');
}

/** A prediction as `/predict` answers it, as SQL text of JSON. */
function answerText(task: Signature['task'], prefix: string, columns: readonly Column[]): string {
  const at = (name: string): string => identifier(`${prefix}${name}`);
  const json = (value: string): string => `coalesce(CAST(${value} AS VARCHAR), 'null')`;
  const named = (text: string): string => textLiteral(JSON.stringify(text));
  if (task.kind === 'raw') {
    const outputs = columns.filter(({ name }) => name.startsWith(`${prefix}output_`)).map(({ name }) => json(identifier(name)));
    return `'{"output":[' || ${outputs.join(` || ',' || `)} || ']}'`;
  }
  if (!('classes' in task)) return `'{"value":' || ${json(at('prediction'))} || '}'`;
  const label = `CASE ${at('prediction')} ${task.classes.map((name) => `WHEN ${textLiteral(name)} THEN ${named(name)}`).join(' ')} END`;
  const each = task.classes.map((name) => `${named(name)} || ':' || ${json(at(`probability_${name}`))}`);
  return `'{"label":' || ${label} || ',"probability":' || ${json(at('probability'))} || ',"probabilities":{' || ${each.join(` || ',' || `)} || '}}'`;
}

export interface KeyedAnswers {
  readonly files: readonly RankedFile[];
  readonly columns: readonly Column[];
  readonly key: readonly Column[];
  readonly task: Signature['task'];
  /** Of the predicted columns' names. */
  readonly prefix: string;
}

/**
 * Answers by the SHA-256 of their key. Rows without a key are left out.
 * @throws MillraceError COLUMN_TYPE for a key of numbers that need not be whole; INVALID_PARAMETERS where a key stands in several rows
 */
export async function answersCsv({ files, columns, key, task, prefix }: KeyedAnswers, options: CsvOptions): Promise<AsyncGenerator<string>> {
  const inexact = key.filter(({ type }) => type === 'number');
  if (inexact.length > 0)
    throw new MillraceError('COLUMN_TYPE', 'A key is of texts, whole numbers, booleans or times.', {
      problems: inexact.map(({ name }): Problem => ({ path: 'key', column: name, message: `${name} is a column of numbers that need not be whole.` })),
    });
  const relation = parquetRelation(files.map(({ path }) => path));
  const repeated = await withDuckDb({ signal: options.signal }, (db) =>
    db.rows(`SELECT ${keyText(key)} AS k, count(*) AS n FROM ${relation} GROUP BY 1 HAVING k IS NOT NULL AND n > 1 ORDER BY n DESC, k LIMIT 5`),
  );
  if (repeated.length > 0)
    throw new MillraceError('INVALID_PARAMETERS', 'A key stands in several rows: it has one prediction only.', {
      problems: repeated.map(
        ({ k, n }): Problem => ({
          path: 'key',
          message: `stands in ${String(toCount(n))} rows`,
          found: (toText(k) ?? '').replaceAll('\u001f', ', ').slice(0, 100),
        }),
      ),
      fix: 'Give a key that names each row once, or a dataset with one row a key.',
    });
  return csvFiles(files, `sha256(${keyText(key)}) AS k, ${answerText(task, prefix, columns)} AS a`, options);
}
