/**
 * What a person's own step did to a dataset's columns, found by comparing what went in with what came out.
 *
 * Invariants:
 * 1. A column passes as unchanged only when the values that came out were there: in the same order, or, where rows were
 *    dropped, reordered or repeated, as rows that were all among those that went in.
 * 2. What a step made or changed is served only by its declared counterpart, which has to give the very values that the
 *    step gave. All else is `unserved`: no request can be given it the same way.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import { type RowTransform, RowTransformSchema } from '../contracts/row-transforms.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import { sensitiveAfter } from './personal-data.ts';
import { transformedRelation } from './row-transforms-sql.ts';
import { identifier } from './sql-text.ts';
import { columnsRead, unservedAfter } from './unserved.ts';

/** A counterpart may compute with other roundings than the step: values this close (relative) are the same. */
const CLOSE = 1e-9;
/** Each column is tried in a pass of its own only up to so many. */
const TRIED_COLUMNS = 200;

export interface StepResult {
  readonly step: string;
  readonly parent: DatasetManifest;
  /** Relations of the rows before and after. */
  readonly before: string;
  readonly after: string;
  readonly rows: number;
  readonly columns: readonly Column[];
  /** What does the same to a request's row. */
  readonly serving: readonly RowTransform[];
}

type Lineage = Pick<DatasetManifest, 'transforms' | 'rawColumns' | 'unserved' | 'sensitive'>;

/**
 * How the columns that a step gave come from raw ones.
 * @throws MillraceError USER_CODE_FAILED where the declared counterpart gives other values than the step, with the first row and column that differ
 */
export async function stepLineage(db: DuckDb, result: StepResult): Promise<Lineage> {
  const { parent, columns, serving, step } = result;
  const counterpart = transformedRelation(result.before, serving, parent.columns);
  const shared = columns.filter(({ name, type }) => counterpart.columns.some((column) => column.name === name && column.type === type));
  const same = await unchanged(db, { ...result, before: counterpart.sql }, shared);
  const declared = new Set(serving.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : transform.kind === 'rename' ? [transform.to] : [])));
  const broken = columns.filter(({ name }) => declared.has(name) && !same.has(name));
  if (broken.length > 0) throw await differs(db, { ...result, before: counterpart.sql }, broken, shared);

  const changed = columns.filter(({ name }) => !same.has(name));
  const sensitive = await sensitiveOf(db, result, changed);
  const because = `the step ${step}`;
  const stillUnserved = Object.entries(unservedAfter(parent.unserved, serving)).filter(([name]) => columns.some((column) => column.name === name));
  const unserved = Object.fromEntries([...stillUnserved, ...changed.map(({ name }): [string, string] => [name, because])]);

  const transforms = [...parent.transforms.map((transform) => RowTransformSchema.parse(transform)), ...serving];
  const touched = new Set(transforms.flatMap(columnsOf));
  const raw = new Set(parent.rawColumns.map(({ name }) => name));
  if (changed.some(({ name }) => touched.has(name) || (raw.has(name) && !parent.columns.some((column) => column.name === name)))) {
    // A transform before the step reads or writes what the step changed: from here on the columns are their own source.
    const made = columns.filter(({ name }) => touched.has(name) && !(name in unserved)).map(({ name }): [string, string] => [name, because]);
    return { transforms: [], rawColumns: plain(columns), unserved: { ...unserved, ...Object.fromEntries(made) }, sensitive };
  }
  const dropped = counterpart.columns.filter(({ name }) => !columns.some((column) => column.name === name)).map(({ name }) => name);
  return {
    transforms: [...transforms, ...(dropped.length > 0 ? [{ kind: 'drop', columns: dropped } as const] : [])],
    rawColumns: plain([
      ...parent.rawColumns.filter(({ name }) => !changed.some((column) => column.name === name)),
      ...changed,
      // a column that the step dropped and no one made anew stays raw: transforms may read it
    ]),
    unserved,
    sensitive,
  };
}

/**
 * Columns of the result that come from personal ones: those of the same name, what the counterpart makes of them, and new
 * ones whose values were all there before in one of them. What a step computes from them otherwise cannot be seen.
 */
async function sensitiveOf(
  db: DuckDb,
  { parent, before, after, columns, serving }: StepResult,
  changed: readonly Column[],
): Promise<Record<string, 'hash' | 'mask'>> {
  const found: Record<string, 'hash' | 'mask'> = { ...sensitiveAfter(parent.sensitive, serving), ...parent.sensitive };
  const personal = parent.columns.filter(({ name }) => Object.hasOwn(parent.sensitive, name));
  for (const { name, type } of changed.filter((column) => !Object.hasOwn(found, column.name))) {
    for (const from of personal.filter((column) => column.type === type)) {
      const [made, was] = [identifier(name), identifier(from.name)];
      const { n, strange } = await db.row(
        `SELECT count(*) AS n, count(*) FILTER (WHERE v NOT IN (SELECT DISTINCT ${was} FROM ${before} WHERE ${was} IS NOT NULL)) AS strange FROM (SELECT DISTINCT ${made} AS v FROM ${after} WHERE ${made} IS NOT NULL)`,
      );
      const rule = parent.sensitive[from.name];
      if (toCount(n) > 0 && toCount(strange) === 0 && rule !== undefined) found[name] = rule;
    }
  }
  return Object.fromEntries(Object.entries(found).filter(([name]) => columns.some((column) => column.name === name)));
}

const plain = (columns: readonly Column[]): { name: string; type: Column['type'] }[] => columns.map(({ name, type }) => ({ name, type }));

function columnsOf(transform: RowTransform): readonly string[] {
  switch (transform.kind) {
    case 'set':
      return [transform.column, ...columnsRead(transform.to)];
    case 'drop':
      return transform.columns;
    case 'rename':
      return [transform.from, transform.to];
    case 'keep':
      return columnsRead(transform.where);
  }
}

interface Compared {
  readonly parent: DatasetManifest;
  readonly before: string;
  readonly after: string;
  readonly rows: number;
}

/** Names of the columns that came out as they went in. */
async function unchanged(db: DuckDb, compared: Compared, columns: readonly Column[]): Promise<ReadonlySet<string>> {
  const names = (list: readonly Column[]): ReadonlySet<string> => new Set(list.map(({ name }) => name));
  if (columns.length === 0) return names([]);
  let inPlace: readonly Column[] = [];
  if (compared.rows === compared.parent.rows) {
    const list = columns.map((column, index) => `count(*) FILTER (WHERE NOT ${sameSql(column)}) AS c${index}`);
    const row = await db.row(`SELECT ${list.join(', ')} FROM ${besides(compared, columns)}`);
    inPlace = columns.filter((_, index) => toCount(row[`c${index}`]) === 0);
    if (inPlace.length === columns.length) return names(columns);
  }
  if (await among(db, compared, columns)) return names(columns);
  if (columns.length > TRIED_COLUMNS) return names(inPlace);
  const found: Column[] = [];
  for (const column of columns) if (await among(db, compared, [...found, column])) found.push(column);
  return names(found.length > inPlace.length ? found : inPlace);
}

/** Whether all rows after, cut down to these columns, were there before. A step may repeat rows, as oversampling does. */
async function among(db: DuckDb, { before, after }: Compared, columns: readonly Column[]): Promise<boolean> {
  const list = columns.map(({ name }) => identifier(name)).join(', ');
  const on = columns.map(({ name }) => `a.${identifier(name)} IS NOT DISTINCT FROM b.${identifier(name)}`).join(' AND ');
  const { n } = await db.row(
    `SELECT count(*) AS n FROM (SELECT DISTINCT ${list} FROM ${after}) AS a ANTI JOIN (SELECT DISTINCT ${list} FROM ${before}) AS b ON ${on}`,
  );
  return toCount(n) === 0;
}

/** Rows before and after side by side, in order: columns `b0`, `a0`, `b1` … */
function besides({ before, after }: Compared, columns: readonly Column[]): string {
  const list = (side: string): string => columns.map(({ name }, index) => `${identifier(name)} AS ${side}${index}`).join(', ');
  const paired = columns.map(({ name }, index) => `b${index} AS ${identifier(`b ${name}`)}, a${index} AS ${identifier(`a ${name}`)}`).join(', ');
  return `(SELECT ${paired} FROM (SELECT ${list('b')} FROM ${before}) POSITIONAL JOIN (SELECT ${list('a')} FROM ${after}))`;
}

function sameSql({ name, type }: Column): string {
  const [b, a] = [identifier(`b ${name}`), identifier(`a ${name}`)];
  const equal = `${b} IS NOT DISTINCT FROM ${a}`;
  return type === 'number' ? `(${equal} OR coalesce(abs(${b} - ${a}) <= ${CLOSE} * greatest(abs(${b}), abs(${a})), false))` : `(${equal})`;
}

async function differs(
  db: DuckDb,
  compared: Compared & { readonly step: string },
  broken: readonly Column[],
  shared: readonly Column[],
): Promise<MillraceError> {
  const typed = broken.filter((column) => shared.includes(column));
  const places = new Map<string, number>();
  if (compared.rows === compared.parent.rows && typed.length > 0) {
    const list = typed.map((column, index) => `min(__row) FILTER (WHERE NOT ${sameSql(column)}) AS c${index}`);
    const row = await db.row(`SELECT ${list.join(', ')} FROM (SELECT *, row_number() OVER () - 1 AS __row FROM ${besides(compared, typed)})`);
    typed.forEach(({ name }, index) => {
      const found = row[`c${index}`];
      if (found !== null && found !== undefined) places.set(name, toCount(found));
    });
  }
  return new MillraceError('USER_CODE_FAILED', `The serving counterpart of the step ${compared.step} gives other values than the step.`, {
    problems: broken.map(({ name, type }) => {
      const row = places.get(name);
      return {
        path: 'serving',
        column: name,
        ...(row === undefined ? {} : { row }),
        message: typed.some((column) => column.name === name)
          ? 'The two give different values.'
          : `The step gives a column of type ${type}, the counterpart another type.`,
        fix: 'Make the row transforms of `serving` do what the step does, or leave the column out of them: then no model that reads it is registered.',
      };
    }),
  });
}
