import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { createJudge, higherIsBetter, type JudgedTask } from '../metrics.ts';
import { shuffledIndices } from '../random.ts';
import type { Score } from './behaviour.ts';
import { reordered, withColumn } from './tables.ts';

export interface ColumnImportance {
  readonly column: string;
  /** How much worse the metric gets when the column's values are shuffled among the rows: the mean over the repeats. */
  readonly loss: number;
  /** Standard deviation over the repeats. */
  readonly deviation: number;
}

export interface ImportanceInput {
  readonly score: Score;
  readonly table: RawTable;
  readonly y: Float64Array;
  readonly task: JudgedTask;
  readonly threshold: number;
  readonly columns: readonly string[];
  readonly metric: string;
  readonly repeats: number;
  readonly seed: number;
  readonly onProgress: (fraction: number) => void;
}

/**
 * Permutation importance (Breiman 2001; of any model: Fisher, Rudin & Dominici 2019), the most important column first.
 * Columns that tell the same share what they tell: shuffling one of them alone costs little.
 */
export async function permutationImportance(input: ImportanceInput): Promise<ColumnImportance[]> {
  const { score, table, y, task, threshold, columns, metric, repeats, seed } = input;
  const judge = async (rows: RawTable): Promise<number> => createJudge(task, y, await score(rows), threshold).values([metric])[metric] ?? Number.NaN;
  const whole = await judge(table);
  const importances: ColumnImportance[] = [];
  for (const [c, name] of columns.entries()) {
    const column = table.columns.get(name) as RawColumn;
    const losses: number[] = [];
    for (let repeat = 0; repeat < repeats; repeat++) {
      const shuffled = await judge(withColumn(table, name, reordered(column, shuffledIndices(table.rows, seed + c * repeats + repeat))));
      losses.push(higherIsBetter(metric) ? whole - shuffled : shuffled - whole);
      input.onProgress((c * repeats + repeat + 1) / (columns.length * repeats));
    }
    const loss = losses.reduce((sum, value) => sum + value, 0) / repeats;
    const squares = losses.reduce((sum, value) => sum + (value - loss) ** 2, 0);
    importances.push({ column: name, loss, deviation: repeats < 2 ? 0 : Math.sqrt(squares / (repeats - 1)) });
  }
  return importances.sort((a, b) => b.loss - a.loss);
}
