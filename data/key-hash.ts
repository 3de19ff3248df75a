import type { Column } from '../contracts/columns.ts';
import { identifier, textLiteral } from './sql-text.ts';

/** A value's text, the same whichever of two related types the reader gave it: 1 and 1.0, a date and its midnight. */
function keyText({ name, type }: Column): string {
  const column = identifier(name);
  switch (type) {
    case 'number':
      return `CASE WHEN ${column} = trunc(${column}) AND abs(${column}) < 1e15 THEN CAST(CAST(${column} AS BIGINT) AS VARCHAR) ELSE CAST(${column} AS VARCHAR) END`;
    case 'date':
      return `CAST(CAST(${column} AS TIMESTAMP) AS VARCHAR)`;
    default:
      return `CAST(${column} AS VARCHAR)`;
  }
}

/**
 * 64 bits of the MD5 of a row's key, as an SQL expression of type UBIGINT; never null. Unlike DuckDB's own hash it is
 * the same in every version, so that what is drawn by it stays drawn.
 */
export function keyHash(columns: readonly Column[], seed: number): string {
  const texts = columns.map((column) => `coalesce(${keyText(column)}, chr(30))`);
  return `md5_number_lower(concat_ws(chr(31), ${[textLiteral(String(seed)), ...texts].join(', ')}))`;
}
