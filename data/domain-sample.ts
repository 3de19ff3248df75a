/** Rows of both sides for a classifier that is to tell them apart: ml/drift/domain-classifier.ts. */
import type { Column } from '../contracts/columns.ts';
import { isEmptySource, isNumeric, openRows, type RecentRows } from './drift-source.ts';
import { type DuckDb, type DuckDbOptions, toNumber, toText, withDuckDb } from './duckdb.ts';

export interface DomainSampleOptions extends DuckDbOptions {
  /** Instants are left out. */
  readonly columns: readonly Column[];
  /** Of each side, spread evenly over it. Default 5,000. */
  readonly rows?: number;
}

/** As `classifyDomain` takes them. */
export interface DomainSample {
  readonly x: { readonly kind: 'dense'; readonly rows: number; readonly columns: number; readonly data: Float32Array };
  readonly recent: Float64Array;
  readonly names: readonly string[];
  readonly categories: readonly number[];
}

const SAMPLE_ROWS = 5_000;
/** Categories with a code of their own, the most frequent ones of both sides; all others share one. */
const CODES = 63;

/** Columns that either side lacks are left out; an empty side has no rows. */
export async function sampleDomain(recent: RecentRows, reference: RecentRows, options: DomainSampleOptions): Promise<DomainSample> {
  const wanted = options.columns.filter(({ type }) => type !== 'timestamp' && type !== 'date');
  const most = options.rows ?? SAMPLE_ROWS;
  return withDuckDb(options, async (db) => {
    const here = isEmptySource(recent) ? undefined : await openRows(db, recent, wanted, 'millrace_domain_recent');
    const there = isEmptySource(reference) ? undefined : await openRows(db, reference, wanted, 'millrace_domain_reference');
    const columns = wanted.flatMap((column, index) =>
      here?.there.has(column.name) === true && there?.there.has(column.name) === true ? [{ column, from: `i${index}` }] : [],
    );
    const parts = [
      here === undefined ? [] : await readSample(db, here.relation, here.rows, columns, most),
      there === undefined ? [] : await readSample(db, there.relation, there.rows, columns, most),
    ] as const;
    const rows = parts[0].length + parts[1].length;
    const data = new Float32Array(rows * columns.length);
    const categories = columns.map(({ column }, index) => {
      const cells = [...parts[0], ...parts[1]].map((row) => row[index] ?? null);
      const codes = isNumeric(column.type) ? undefined : codesOf(cells);
      cells.forEach((cell, row) => {
        data[index * rows + row] = cell === null ? Number.NaN : codes === undefined ? (cell as number) : (codes.get(cell as string) ?? codes.size);
      });
      return codes === undefined ? 0 : codes.size + 1;
    });
    return {
      x: { kind: 'dense', rows, columns: columns.length, data },
      recent: Float64Array.from({ length: rows }, (_, row) => (row < parts[0].length ? 1 : 0)),
      names: columns.map(({ column }) => column.name),
      categories,
    };
  });
}

type Cells = readonly (number | string | null)[];

async function readSample(
  db: DuckDb,
  relation: string,
  rows: number,
  columns: readonly { readonly column: Column; readonly from: string }[],
  most: number,
): Promise<readonly Cells[]> {
  if (columns.length === 0) return [];
  const list = columns.map(({ from }) => from).join(', ');
  const step = Math.max(1, Math.ceil(rows / most));
  const found = await db.rows(`SELECT ${list} FROM (SELECT ${list}, row_number() OVER () AS r FROM ${relation}) WHERE (r - 1) % ${step} = 0`);
  return found.map((row) => columns.map(({ column, from }) => (isNumeric(column.type) ? toNumber(row[from]) : toText(row[from] ?? null))));
}

function codesOf(cells: Cells): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const cell of cells) if (typeof cell === 'string') counts.set(cell, (counts.get(cell) ?? 0) + 1);
  const frequent = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, CODES);
  return new Map(frequent.map(([value], code) => [value, code]));
}
