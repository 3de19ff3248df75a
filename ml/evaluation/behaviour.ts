import type { BehaviourTest } from '../../contracts/behaviour-tests.ts';
import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { Signature } from '../../contracts/signature.ts';
import { createRandom, shuffledIndices } from '../random.ts';
import { type Cell, cellOf, columnOf, reordered, takeRows, withColumn } from './tables.ts';

/** Answers of a model to a table: row-major [rows × outputs]. */
export type Score = (table: RawTable) => Promise<Float64Array>;

export interface BehaviourSubject {
  readonly signature: Signature;
  readonly score: Score;
  /** Rows that perturbations are tried on. */
  readonly table: RawTable;
  /** A request's row after the row transforms. */
  readonly transform: (row: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
}

export interface BehaviourResult {
  readonly test: number;
  readonly kind: BehaviourTest['kind'];
  /** What was tried, in one line. */
  readonly what: string;
  /** Answers that were looked at, and those that were wrong. */
  readonly tried: number;
  readonly failed: number;
  /** The greatest change to the wrong side (invariance: any side). */
  readonly worst: number | null;
  readonly passed: boolean;
  readonly severity: 'fail' | 'warn';
  /** The worst ones, at most 5. */
  readonly examples: readonly { readonly row: Readonly<Record<string, unknown>>; readonly found: string; readonly expected: string }[];
}

const EXAMPLES = 5;

/** Tries each test. @throws INVALID_PARAMETERS naming every test that does not fit the model */
export async function runBehaviourTests(tests: readonly BehaviourTest[], subject: BehaviourSubject): Promise<BehaviourResult[]> {
  const problems = tests.flatMap((test, i) => misfit(test, i, subject));
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'A test of behaviour does not fit the model.', { problems });
  const results: BehaviourResult[] = [];
  for (const [i, test] of tests.entries()) results.push({ test: i, ...(await run(test, subject)) });
  return results;
}

function run(test: BehaviourTest, subject: BehaviourSubject): Promise<Omit<BehaviourResult, 'test'>> {
  switch (test.kind) {
    case 'invariance':
      return tryInvariance(test, subject);
    case 'direction':
      return tryDirection(test, subject);
    case 'mustPass':
      return tryRows(test, subject);
  }
}

const classesOf = ({ task }: Signature): readonly string[] => ('classes' in task ? task.classes : []);

function misfit(test: BehaviourTest, index: number, { signature, table }: BehaviourSubject): Problem[] {
  const path = `tests[${index}]`;
  const classes = classesOf(signature);
  const classList = (): string => (classes.length === 0 ? 'none: it is a regression' : classes.join(', '));
  if (test.kind === 'mustPass') {
    return test.rows.flatMap(({ answer, between }, row): Problem[] => {
      const at = `${path}.rows[${row}]`;
      if (answer === undefined && between === undefined) return [{ path: at, message: 'must state an answer or a range', fix: 'Give `answer` or `between`.' }];
      return answer !== undefined && !classes.includes(answer)
        ? [{ path: `${at}.answer`, message: `is no class of the model; there are ${classList()}`, found: answer }]
        : [];
    });
  }
  const column = table.columns.get(test.column);
  const read = [...signature.graph.numbers, ...signature.graph.dates, ...signature.graph.strings];
  if (!read.includes(test.column) || column === undefined) {
    return [{ path: `${path}.column`, message: 'is no column that the model reads', found: test.column, fix: `Use one of: ${read.join(', ')}.` }];
  }
  if (test.kind === 'invariance') return [];
  const problems: Problem[] = [];
  if (column.kind === 'string') problems.push({ path: `${path}.column`, message: 'holds texts, which have no direction', found: test.column });
  if (test.add === undefined && test.times === undefined) problems.push({ path, message: 'must say how far to move', fix: 'Give `add` or `times`.' });
  if (signature.task.kind === 'multiclass' && test.class === undefined)
    problems.push({ path: `${path}.class`, message: 'must name a class, of which there are several' });
  if (test.class !== undefined && !classes.includes(test.class))
    problems.push({ path: `${path}.class`, message: `is no class of the model; there are ${classList()}`, found: test.class });
  return problems;
}

function sampleOf(table: RawTable, rows: number, seed: number): RawTable {
  return rows >= table.rows ? table : takeRows(table, shuffledIndices(table.rows, seed).subarray(0, rows).sort());
}

/** What was found in one test, the worst rows kept. */
function tally() {
  let [tried, failed] = [0, 0];
  let worst: number | null = null;
  const examples: { readonly by: number; readonly example: BehaviourResult['examples'][number] }[] = [];
  return {
    add(by: number, isWrong: boolean, example: () => BehaviourResult['examples'][number]): void {
      tried++;
      worst = Math.max(worst ?? by, by);
      if (!isWrong) return;
      failed++;
      if (examples.length === EXAMPLES && by <= (examples.at(-1)?.by ?? 0)) return;
      examples.push({ by, example: example() });
      examples.sort((a, b) => b.by - a.by).splice(EXAMPLES);
    },
    result: (test: BehaviourTest, what: string, allow: number): Omit<BehaviourResult, 'test'> => ({
      kind: test.kind,
      what,
      tried,
      failed,
      worst,
      passed: failed <= allow * tried,
      severity: test.severity,
      examples: examples.map(({ example }) => example),
    }),
  };
}

const rowOf = (table: RawTable, row: number): Record<string, unknown> =>
  Object.fromEntries([...table.columns].map(([name, column]) => [name, cellOf(column, row)]));
const figure = (value: number): string => value.toPrecision(6);

async function tryInvariance(test: Extract<BehaviourTest, { kind: 'invariance' }>, { score, table }: BehaviourSubject): Promise<Omit<BehaviourResult, 'test'>> {
  const sample = sampleOf(table, test.rows, test.seed);
  const column = sample.columns.get(test.column) as RawColumn;
  const before = await score(sample);
  const width = before.length / sample.rows;
  const found = tally();
  const random = createRandom(test.seed);
  const others: readonly RawColumn[] = test.to?.map((value) => columnOf(column.kind, new Array<Cell>(sample.rows).fill(value))) ?? [
    reordered(
      column,
      Uint32Array.from({ length: sample.rows }, () => random.below(sample.rows)),
    ),
  ];
  for (const other of others) {
    const after = await score(withColumn(sample, test.column, other));
    for (let row = 0; row < sample.rows; row++) {
      let change = 0;
      for (let k = 0; k < width; k++) change = Math.max(change, Math.abs((after[row * width + k] as number) - (before[row * width + k] as number)));
      found.add(change, !(change <= test.atMost), () => ({
        row: rowOf(sample, row),
        found: `${test.column} = ${String(cellOf(other, row))} changes the answer by ${figure(change)}`,
        expected: `at most ${test.atMost}`,
      }));
    }
  }
  return found.result(test, `another ${test.column} changes the answer by at most ${test.atMost}`, test.allow);
}

async function tryDirection(
  test: Extract<BehaviourTest, { kind: 'direction' }>,
  { score, table, signature }: BehaviourSubject,
): Promise<Omit<BehaviourResult, 'test'>> {
  const sample = sampleOf(table, test.rows, test.seed);
  const column = sample.columns.get(test.column) as Exclude<RawColumn, { kind: 'string' }>;
  const moved: RawColumn = { kind: column.kind, values: column.values.map((value) => value * (test.times ?? 1) + (test.add ?? 0)) };
  const [before, after] = [await score(sample), await score(withColumn(sample, test.column, moved))];
  const width = before.length / sample.rows;
  const output = test.class === undefined ? width - 1 : classesOf(signature).indexOf(test.class);
  const found = tally();
  for (let row = 0; row < sample.rows; row++) {
    // a missing value has not moved
    if (Number.isNaN(column.values[row])) continue;
    const change = (after[row * width + output] as number) - (before[row * width + output] as number);
    const wrong = test.expect === 'up' ? -change : change;
    found.add(wrong, !(wrong <= test.tolerance), () => ({
      row: rowOf(sample, row),
      found: `${test.column} = ${String(cellOf(moved, row))} moves the score by ${figure(change)}`,
      expected: `not ${test.expect === 'up' ? 'lower' : 'higher'}${test.tolerance === 0 ? '' : ` by more than ${test.tolerance}`}`,
    }));
  }
  const step = [test.times === undefined ? '' : ` × ${test.times}`, test.add === undefined ? '' : ` ${test.add < 0 ? '-' : '+'} ${Math.abs(test.add)}`].join(
    '',
  );
  return found.result(test, `${test.column}${step} moves the score ${test.expect}, or not at all`, test.allow);
}

async function tryRows(
  test: Extract<BehaviourTest, { kind: 'mustPass' }>,
  { score, signature, transform }: BehaviourSubject,
): Promise<Omit<BehaviourResult, 'test'>> {
  const { graph, task, threshold } = signature;
  const rows = test.rows.map(({ row }) => transform(row));
  const cells = (name: string): Cell[] => rows.map((row) => (row[name] as Cell | undefined) ?? null);
  const table: RawTable = {
    rows: rows.length,
    columns: new Map([
      ...graph.numbers.map((name) => [name, columnOf('number', cells(name))] as const),
      ...graph.dates.map((name) => [name, columnOf('timestamp', cells(name))] as const),
      ...graph.strings.map((name) => [name, columnOf('string', cells(name))] as const),
    ]),
  };
  const answers = await score(table);
  const width = answers.length / rows.length;
  const classes = classesOf(signature);
  const found = tally();
  test.rows.forEach(({ row, answer, between }, i) => {
    const values = answers.subarray(i * width, (i + 1) * width);
    const answered = task.kind === 'binary' ? ((values[1] as number) >= threshold ? 1 : 0) : values.indexOf(Math.max(...values));
    const wrong = answer !== undefined && classes[answered] !== answer;
    const value = values[task.kind === 'multiclass' ? classes.indexOf(answer ?? '') : width - 1] ?? Math.max(...values);
    const outside = between === undefined ? 0 : Math.max(between[0] - value, value - between[1], 0);
    const shown = classes.length > 0 ? `${String(classes[answered])} (${figure(value)})` : figure(value);
    const asked = [answer, between === undefined ? undefined : `between ${between[0]} and ${between[1]}`].filter((text) => text !== undefined).join(', ');
    found.add(outside, wrong || !(outside === 0), () => ({ row, found: shown, expected: asked }));
  });
  return found.result(test, `${test.rows.length} rows are answered as stated`, 0);
}
