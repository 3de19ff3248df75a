/** Logged requests, answered once more by the path that the training data took. */
import type { RawColumn, RawTable } from '../contracts/columns.ts';
import { maskedValueOf } from '../contracts/personal-data.ts';
import type { WindowFigures } from '../contracts/monitoring.ts';
import type { Expression } from '../contracts/row-transforms.ts';
import type { Signature } from '../contracts/signature.ts';
import type { DuckDb } from '../data/duckdb.ts';
import type { MonitorRows, SampledRow } from '../data/monitor-rows.ts';
import { openPartReader } from '../data/read-columns.ts';
import { compileRowTransforms, type RowValue } from '../data/row-transforms.ts';
import { bindHashKey, transformedRelation } from '../data/row-transforms-sql.ts';
import { createScorer, type Scorer } from '../ml/score.ts';

type WindowSkew = NonNullable<WindowFigures['skew']>;

export interface ScoreAgainInput {
  readonly onnx: string;
  readonly signature: Signature;
  readonly hashKey: string;
  readonly rows: number;
  /** Of an output above 1 in size: as a share of it. */
  readonly tolerance: number;
}

/** Differing rows for which it is looked what makes the difference. */
const EXPLAINED_ROWS = 20;
/** Other values that are tried in a column's place. */
const TRIED_VALUES = 24;
const BISECTIONS = 30;
/** Needed values whose spread is below this follow one rule. */
const ONE_RULE = 0.02;

/**
 * Compares logged outputs with those of the training path: DuckDB applies the row transforms, the same graph answers. Where they
 * differ, the raw columns behind it are those whose transformed value the request path gives otherwise; where it gives the
 * same, those with which one other value alone gives the logged output.
 */
export async function scoreAgain(db: DuckDb, window: MonitorRows, input: ScoreAgainInput): Promise<WindowSkew> {
  const { signature } = input;
  const nothing = { rows: 0, differing: 0, greatest: 0, columns: [], example: null };
  if (signature.transforms.some((transform) => transform.kind === 'set' && hashes(transform.to)))
    return { ...nothing, why: 'a column is hashed before it is logged: its value is not known any more' };
  const sampled = await window.sample({ rows: input.rows, carrying: signature.columns.map(({ name }) => name) });
  // of two classes the log may have the positive one's probability alone
  const isBinary = signature.task.kind === 'binary';
  const drawn = {
    ...sampled,
    rows: sampled.rows.map((row) => ({
      ...row,
      output: isBinary && row.output.length === 1 ? [1 - (row.output[0] ?? Number.NaN), ...row.output] : row.output,
    })),
  };
  if (drawn.rows.length === 0) return { ...nothing, why: 'no request of the window was logged with all raw columns' };
  const { graph, columns, transforms } = signature;
  await bindHashKey(db, input.hashKey);
  const relation = transformedRelation(drawn.relation(columns), transforms, columns);
  const wanted = [...new Set([...graph.numbers, ...graph.dates, ...graph.strings])];
  const read = await openPartReader(
    db,
    relation.sql,
    wanted.flatMap((name) => relation.columns.filter((column) => column.name === name)),
    drawn.rows.length,
  );
  const table = await read(relation.sql);
  if (table.rows !== drawn.rows.length) return { ...nothing, why: 'the row transforms leave rows out' };
  const scorer = await createScorer(input.onnx, graph);
  try {
    const { values, outputs } = await scorer.score(table);
    const again = drawn.rows.map((_, row) => Array.from(values.subarray(row * outputs, (row + 1) * outputs)));
    const gaps = drawn.rows.map(({ output }, row) => gapOf(output, again[row] ?? []));
    const differing = gaps.flatMap((gap, row) => (gap > input.tolerance ? [row] : [])).sort((a, b) => (gaps[b] ?? 0) - (gaps[a] ?? 0));
    const [worst] = differing;
    const example = worst === undefined ? undefined : drawn.rows[worst];
    return {
      rows: table.rows,
      differing: differing.length,
      greatest: Math.max(0, ...gaps.filter(Number.isFinite)),
      columns: differing.length === 0 ? [] : await columnsBehind(scorer, { ...input, table, rows: drawn.rows, differing: differing.slice(0, EXPLAINED_ROWS) }),
      example:
        example === undefined || worst === undefined
          ? null
          : { requestId: example.requestId, row: example.row, logged: finite(example.output), again: again[worst] ?? [] },
      why: null,
    };
  } finally {
    await scorer.close();
  }
}

/** JSON has no NaN. */
const finite = (values: readonly number[]): number[] => values.map((value) => (Number.isFinite(value) ? value : 0));

/** Greatest difference of an output, as a share of outputs above 1; infinite where one side has no number. */
function gapOf(logged: readonly number[], again: readonly number[]): number {
  if (logged.length !== again.length) return Number.POSITIVE_INFINITY;
  return again.reduce((most, value, k) => {
    const gap = Math.abs(value - (logged[k] ?? Number.NaN)) / Math.max(1, Math.abs(value));
    return Math.max(most, Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap);
  }, 0);
}

const hashes = (expression: Expression): boolean =>
  expression.op === 'hash' || maskedValueOf(expression) !== undefined || (expression.op === 'call' && expression.args.some((arg) => hashes(arg)));

function columnsIn(expression: Expression): readonly string[] {
  if (expression.op === 'column') return [expression.name];
  if (expression.op === 'hash') return columnsIn(expression.value);
  return expression.op === 'call' ? expression.args.flatMap(columnsIn) : [];
}

/** Graph column → the raw columns that it is made from. */
function originsOf({ columns, transforms }: Signature): ReadonlyMap<string, readonly string[]> {
  const origins = new Map<string, readonly string[]>(columns.map(({ name }) => [name, [name]]));
  for (const transform of transforms) {
    if (transform.kind === 'set') origins.set(transform.column, [...new Set(columnsIn(transform.to).flatMap((name) => origins.get(name) ?? []))]);
    else if (transform.kind === 'rename') origins.set(transform.to, origins.get(transform.from) ?? []);
  }
  return origins;
}

interface Differing extends Omit<ScoreAgainInput, 'rows'> {
  readonly table: RawTable;
  readonly rows: readonly SampledRow[];
  readonly differing: readonly number[];
}

async function columnsBehind(scorer: Scorer, input: Differing): Promise<WindowSkew['columns']> {
  const origins = originsOf(input.signature);
  const counts = new Map<string, number>();
  const unexplained: number[] = [];
  const apply = compileRowTransforms(input.signature.transforms, input.signature.columns, input.hashKey);
  for (const row of input.differing) {
    const served = apply(input.rows[row]?.inputs ?? {});
    const unlike = [...input.table.columns].flatMap(([name, column]) => (sameValue(column, row, served[name] ?? null) ? [] : [name]));
    const raw = new Set(unlike.flatMap((name) => origins.get(name) ?? [name]));
    for (const name of raw) counts.set(name, (counts.get(name) ?? 0) + 1);
    if (raw.size === 0) unexplained.push(row);
  }
  for (const [name, rows] of await explainedBy(scorer, input, unexplained))
    for (const raw of origins.get(name) ?? [name]) counts.set(raw, (counts.get(raw) ?? 0) + rows);
  return [...counts].map(([column, rows]) => ({ column, rows })).sort((a, b) => b.rows - a.rows || (a.column < b.column ? -1 : 1));
}

function sameValue(column: RawColumn, row: number, served: RowValue): boolean {
  if (column.kind === 'string') {
    const code = column.codes[row] ?? -1;
    return (code < 0 ? null : (column.dictionary[code] ?? null)) === (served === null ? null : String(served));
  }
  const value = column.values[row] ?? Number.NaN;
  const other = served === null ? Number.NaN : Number(served);
  // the graph takes single precision
  return Object.is(value, other) || value === other || Math.abs(value - other) <= 1e-9 * Math.max(1, Math.abs(value));
}

/**
 * Graph columns in whose place another value alone gives the logged output: null, another row's, or one found between two of
 * those. Of several columns that all could, the one whose values follow one rule (a factor, an offset, always the same).
 */
async function explainedBy(
  scorer: Scorer,
  { table, rows, signature, tolerance }: Differing,
  differing: readonly number[],
): Promise<ReadonlyMap<string, number>> {
  if (differing.length === 0) return new Map();
  const logged = differing.map((row) => rows[row]?.output ?? []);
  const found: { readonly name: string; readonly rows: number; readonly spread: number }[] = [];
  for (const name of [...signature.graph.numbers, ...signature.graph.strings]) {
    const column = table.columns.get(name);
    if (column === undefined) continue;
    const values = triedValues(column);
    const answers = await answersWith(scorer, table, differing, name, (_, at) => values[at] as number, values.length);
    const needed = differing.map(
      (_, place): number | undefined => values[(answers[place] ?? []).findIndex((answer) => gapOf(logged[place] ?? [], answer) <= tolerance)],
    );
    if (column.kind !== 'string') await bisect(scorer, { table, name, differing, logged, values, answers, needed, tolerance });
    const explained = needed.filter((value) => value !== undefined).length;
    if (explained > 0)
      found.push({
        name,
        rows: explained,
        spread:
          column.kind === 'string'
            ? 0
            : spreadOf(
                differing.map((row) => column.values[row] as number),
                needed,
              ),
      });
  }
  const most = Math.max(0, ...found.map((one) => one.rows));
  const best = found.filter((one) => one.rows === most).sort((one, other) => one.spread - other.spread);
  const [first] = best;
  return new Map(best.filter(({ spread }) => first !== undefined && (first.spread > ONE_RULE || spread === first.spread)).map((one) => [one.name, one.rows]));
}

type Answers = readonly (readonly (readonly number[])[])[];

/** Answers to each of the rows with each of so many values in one column. */
async function answersWith(
  scorer: Scorer,
  table: RawTable,
  differing: readonly number[],
  name: string,
  valueAt: (place: number, at: number) => number,
  tries: number,
): Promise<Answers> {
  const { values, outputs } = await scorer.score(repeated(table, differing, name, valueAt, tries));
  return differing.map((_, place) =>
    Array.from({ length: tries }, (_tried, at) => Array.from(values.subarray((place * tries + at) * outputs, (place * tries + at + 1) * outputs))),
  );
}

/** Looks between two neighbouring values whose answers lie on both sides of the logged one for the value that gives it. */
async function bisect(
  scorer: Scorer,
  {
    table,
    name,
    differing,
    logged,
    values,
    answers,
    needed,
    tolerance,
  }: {
    readonly table: RawTable;
    readonly name: string;
    readonly differing: readonly number[];
    readonly logged: readonly (readonly number[])[];
    readonly values: readonly number[];
    readonly answers: Answers;
    readonly needed: (number | undefined)[];
    readonly tolerance: number;
  },
): Promise<void> {
  const lastOf = (answer: readonly number[] | undefined): number => answer?.at(-1) ?? Number.NaN;
  const open = differing.flatMap((_, place) => {
    if (needed[place] !== undefined) return [];
    const goal = lastOf(logged[place]);
    // the first value is null
    const at = values.findIndex((_value, i) => i > 1 && (lastOf(answers[place]?.[i - 1]) - goal) * (lastOf(answers[place]?.[i]) - goal) <= 0);
    return at < 0 ? [] : [{ place, goal, low: values[at - 1] as number, high: values[at] as number, below: lastOf(answers[place]?.[at - 1]) - goal }];
  });
  for (let step = 0; step < BISECTIONS && open.length > 0; step++) {
    const middles = open.map(({ low, high }) => (low + high) / 2);
    const tried = await answersWith(
      scorer,
      table,
      open.map(({ place }) => differing[place] as number),
      name,
      (place) => middles[place] as number,
      1,
    );
    open.forEach((one, index) => {
      const answer = tried[index]?.[0] ?? [];
      if (gapOf(logged[one.place] ?? [], answer) <= tolerance) needed[one.place] = middles[index];
      const gap = lastOf(answer) - one.goal;
      if (gap * one.below > 0) one.low = middles[index] as number;
      else one.high = middles[index] as number;
    });
  }
}

/** How far the needed values are from following one rule of the real ones: 0 where they do. Null throughout is one. */
function spreadOf(real: readonly number[], needed: readonly (number | undefined)[]): number {
  const pairs = needed.flatMap((value, i) => (value === undefined ? [] : [[real[i] as number, value] as const]));
  if (pairs.every(([, value]) => Number.isNaN(value))) return 0;
  const deviation = (values: readonly number[]): number => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const size = values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    return size === 0 ? 0 : spread / size;
  };
  const rules = [pairs.map(([value, other]) => other / value), pairs.map(([value, other]) => other - value), pairs.map(([, other]) => other)];
  const finite = rules.map((rule) => (rule.every(Number.isFinite) ? deviation(rule) : Number.POSITIVE_INFINITY));
  return pairs.length < 2 ? Number.POSITIVE_INFINITY : Math.min(...finite);
}

/** Null, and values of the column from its least to its greatest: codes of texts. */
function triedValues(column: RawColumn): readonly number[] {
  if (column.kind === 'string') return [-1, ...Array.from({ length: Math.min(TRIED_VALUES, column.dictionary.length) }, (_, code) => code)];
  const sorted = [...new Set(column.values.filter((value) => !Number.isNaN(value)))].sort((a, b) => a - b);
  const picked =
    sorted.length <= TRIED_VALUES
      ? sorted
      : Array.from({ length: TRIED_VALUES }, (_, i) => sorted[Math.round((i * (sorted.length - 1)) / (TRIED_VALUES - 1))] as number);
  return [Number.NaN, ...picked];
}

/** Each of the rows as often as it is tried, with another value each in the column. */
function repeated(table: RawTable, rows: readonly number[], name: string, valueAt: (place: number, at: number) => number, tries: number): RawTable {
  const length = rows.length * tries;
  const from = (at: number): number => rows[Math.floor(at / tries)] as number;
  const tried = (at: number): number => valueAt(Math.floor(at / tries), at % tries);
  const columns = [...table.columns].map(([key, column]): readonly [string, RawColumn] => [
    key,
    column.kind === 'string'
      ? { ...column, codes: Int32Array.from({ length }, (_, at) => (key === name ? tried(at) : (column.codes[from(at)] as number))) }
      : { ...column, values: Float64Array.from({ length }, (_, at) => (key === name ? tried(at) : (column.values[from(at)] as number))) },
  ]);
  return { rows: length, columns: new Map(columns) };
}
