import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { createRandom, shuffledIndices } from '../random.ts';
import type { Score } from './behaviour.ts';
import { cellOf, reordered } from './tables.ts';

export interface Explanation {
  /** Row number in the table. */
  readonly row: number;
  /** The explained output: its index among the model's outputs. */
  readonly output: number;
  readonly answer: number;
  /** Mean answer over the background rows that were drawn; `base` and the contributions add up to `answer`. */
  readonly base: number;
  /** What each column adds to the answer, the greatest first; `error` is the standard error of the sampling. */
  readonly contributions: readonly { readonly column: string; readonly value: string | number | null; readonly contribution: number; readonly error: number }[];
}

export interface ExplainInput {
  readonly score: Score;
  /** Rows that stand for "nothing known": columns that are not yet in take their values from here. */
  readonly table: RawTable;
  readonly rows: readonly { readonly row: number; readonly output: number }[];
  readonly columns: readonly string[];
  /** Orders of columns that are tried for each row. */
  readonly permutations: number;
  readonly seed: number;
  readonly onProgress: (fraction: number) => void;
}

/**
 * Shapley values of each row by sampling (Štrumbelj & Kononenko 2014): for a random order of the columns and a random
 * other row, columns take the row's own value one after the other, and each is given the change of the answer. Columns
 * are taken as independent of each other.
 */
export async function explainRows({ score, table, rows, columns, permutations, seed, onProgress }: ExplainInput): Promise<Explanation[]> {
  const width = columns.length;
  const explanations: Explanation[] = [];
  for (const [i, { row, output }] of rows.entries()) {
    const random = createRandom(seed + i);
    const orders = Array.from({ length: permutations }, (_, p) => shuffledIndices(width, (seed + 1) * 7_919 + i * permutations + p));
    const others = Array.from({ length: permutations }, () => random.below(table.rows));
    // from[c][p * (width + 1) + step]: the row that column c takes its value from
    const from = columns.map(() => new Uint32Array(permutations * (width + 1)));
    orders.forEach((order, p) => {
      const placeOf = new Uint32Array(width);
      order.forEach((c, place) => (placeOf[c] = place));
      for (let c = 0; c < width; c++)
        for (let step = 0; step <= width; step++)
          (from[c] as Uint32Array)[p * (width + 1) + step] = (placeOf[c] as number) < step ? row : (others[p] as number);
    });
    const mixed: RawTable = {
      rows: permutations * (width + 1),
      columns: new Map(columns.map((name, c) => [name, reordered(table.columns.get(name) as RawColumn, from[c] as Uint32Array)])),
    };
    const answers = await score(mixed);
    const outputs = answers.length / mixed.rows;
    const at = (p: number, step: number): number => answers[(p * (width + 1) + step) * outputs + output] as number;
    const [sums, squares] = [new Float64Array(width), new Float64Array(width)];
    let [base, answer] = [0, 0];
    orders.forEach((order, p) => {
      base += at(p, 0) / permutations;
      answer += at(p, width) / permutations;
      order.forEach((c, place) => {
        const change = at(p, place + 1) - at(p, place);
        sums[c] = (sums[c] as number) + change;
        squares[c] = (squares[c] as number) + change ** 2;
      });
    });
    const contributions = columns.map((column, c) => {
      const contribution = (sums[c] as number) / permutations;
      const variance = permutations < 2 ? 0 : Math.max(0, (squares[c] as number) - permutations * contribution ** 2) / (permutations - 1);
      return { column, value: cellOf(table.columns.get(column), row), contribution, error: Math.sqrt(variance / permutations) };
    });
    explanations.push({ row, output, answer, base, contributions: contributions.sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution)) });
    onProgress((i + 1) / rows.length);
  }
  return explanations;
}
