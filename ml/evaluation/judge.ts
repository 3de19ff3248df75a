import { MillraceError } from '../../contracts/errors.ts';

/** Rows whose answers are judged. What does not depend on the weights is worked out once, so that weights may change often. */
export interface Judge {
  readonly rows: number;
  /** What it can compute, in the order in which it is shown. */
  readonly names: readonly string[];
  /** The figures of these names (default: all); NaN where one has no value on these rows. `weights` default: 1 for each row. */
  values(names?: readonly string[], weights?: Float64Array): Record<string, number>;
}

/** Figures of one pass over the rows: each is worked out when it is asked for. */
export type Figures<Pass> = Readonly<Record<string, (pass: Pass) => number>>;

/** A judge whose figures share what one pass over the rows finds. */
export function judgeOf<Pass>(rows: number, figures: Figures<Pass>, open: (weights: Float64Array | undefined) => Pass): Judge {
  const names = Object.keys(figures);
  return {
    rows,
    names,
    values: (wanted = names, weights) => {
      const pass = open(weights);
      return Object.fromEntries(wanted.map((name) => [name, figures[name]?.(pass) ?? Number.NaN]));
    },
  };
}

/** Calls once, remembers the answer. */
export function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** 0 where scikit-learn says 0 with a warning: nothing was predicted, or nothing was there. */
export const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

export const totalOf = (weights: Float64Array | undefined, rows: number): number => weights?.reduce((sum, weight) => sum + weight, 0) ?? rows;

/** Rows from the highest score to the lowest; of equal ones in their order. */
export function descendingOrder(scores: Float64Array): Uint32Array {
  // typed arrays of numbers sort several times faster than by a comparing function: sort the scores, then place the rows
  const sorted = Float64Array.from(scores).sort();
  const rows = scores.length;
  const levels: number[] = [];
  const starts: number[] = [];
  for (let i = 0; i < rows; i++) {
    if (i === 0 || sorted[rows - 1 - i] !== sorted[rows - i]) {
      levels.push(sorted[rows - 1 - i] as number);
      starts.push(i);
    }
  }
  const order = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) {
    const score = scores[row] as number;
    let low = 0;
    let high = levels.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((levels[middle] as number) > score) low = middle + 1;
      else high = middle;
    }
    order[starts[low] as number] = row;
    starts[low] = (starts[low] as number) + 1;
  }
  return order;
}

/** @throws SOURCE_EMPTY without rows; MODEL_INVALID where an answer is no finite number */
export function requireAnswers(y: Float64Array, answers: Float64Array, outputs: number): void {
  if (y.length === 0) throw new MillraceError('SOURCE_EMPTY', 'There are no rows to evaluate on.');
  if (answers.length !== y.length * outputs) {
    throw new MillraceError('INTERNAL', `${y.length} rows need ${y.length * outputs} predictions, not ${answers.length}.`);
  }
  let broken = 0;
  let first = -1;
  for (let row = 0; row < y.length; row++) {
    let finite = true;
    for (let k = 0; k < outputs; k++) finite &&= Number.isFinite(answers[row * outputs + k]);
    if (finite) continue;
    broken++;
    if (first < 0) first = row;
  }
  if (broken > 0) {
    throw new MillraceError('MODEL_INVALID', `The model's answer to ${broken} of ${y.length} rows is no finite number.`, {
      problems: [{ path: `rows[${first}]`, message: 'is answered with NaN or an infinite number', found: String(answers[first * outputs]) }],
      fix: 'Look for infinite values in the features, and for a division by zero or an overflow in the model.',
    });
  }
}
