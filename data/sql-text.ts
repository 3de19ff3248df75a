import type { ColumnType } from '../contracts/columns.ts';

/** A column's or table's name as SQL reads it, whatever characters it holds. */
export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** A text as an SQL literal. DuckDB knows no escapes in plain literals: only the quote is doubled. NUL is spelt out. */
export function textLiteral(value: string): string {
  const parts = value.split('\0').map((part) => `'${part.replaceAll("'", "''")}'`);
  return parts.length === 1 ? (parts[0] ?? "''") : `(${parts.join(' || chr(0) || ')})`;
}

/** A number as a DOUBLE literal, bit for bit: the shortest text that reads back as the same number. */
export function numberLiteral(value: number): string {
  if (!Number.isFinite(value)) return 'CAST(NULL AS DOUBLE)';
  return `CAST(${Object.is(value, -0) ? "'-0.0'" : `'${value}'`} AS DOUBLE)`;
}

export const listLiteral = (items: readonly string[]): string => `[${items.join(', ')}]`;

/** The Parquet files of a snapshot as one relation, in row order. */
export const parquetRelation = (paths: readonly string[]): string => `read_parquet(${listLiteral(paths.map(textLiteral))})`;

/** The type that a snapshot stores a column in. */
export const DUCKDB_TYPE = {
  number: 'DOUBLE',
  integer: 'BIGINT',
  boolean: 'BOOLEAN',
  string: 'VARCHAR',
  timestamp: 'TIMESTAMP',
  date: 'DATE',
} as const satisfies Record<ColumnType, string>;

/**
 * A DuckDB type as Millrace sees it; undefined for one that has no place in a table of columns (BLOB, BIT).
 * Nested types, times of day, intervals and identifiers become text.
 */
export function columnTypeOf(duckDbType: string): ColumnType | undefined {
  const type = duckDbType.toUpperCase();
  if (/^(?:TINYINT|SMALLINT|INTEGER|BIGINT|UTINYINT|USMALLINT|UINTEGER)$/.test(type)) return 'integer';
  if (/^(?:FLOAT|DOUBLE|HUGEINT|UHUGEINT|UBIGINT|BIGNUM|VARINT)$/.test(type) || /^DECIMAL\([\d, ]+\)$/.test(type)) return 'number';
  if (type === 'BOOLEAN') return 'boolean';
  if (type === 'DATE') return 'date';
  if (/^TIMESTAMP(?:_S|_MS|_NS)?$/.test(type) || type === 'TIMESTAMP WITH TIME ZONE') return 'timestamp';
  if (/^(?:BLOB|BIT|GEOMETRY)$/.test(type)) return undefined;
  return 'string';
}

/** An expression that brings a column of any DuckDB type into its canonical one. NaN and infinities become null. */
export function canonicalColumn(name: string, duckDbType: string, type: ColumnType): string {
  const column = identifier(name);
  const upper = duckDbType.toUpperCase();
  if (upper === DUCKDB_TYPE[type] && type !== 'number') return column;
  if (type === 'number' && /^(?:FLOAT|DOUBLE)$/.test(upper)) return `CASE WHEN isfinite(${column}) THEN CAST(${column} AS DOUBLE) END`;
  if (type === 'string' && /[[(]|^JSON$|^MAP/.test(upper) && upper !== 'VARCHAR' && !upper.startsWith('ENUM')) {
    return upper === 'JSON' ? `CAST(${column} AS VARCHAR)` : `CAST(to_json(${column}) AS VARCHAR)`;
  }
  return `CAST(${column} AS ${DUCKDB_TYPE[type]})`;
}
