import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DuckDBInstance } from '@duckdb/node-api';
import { choice, int, logUniform, type SearchSpace, uniform } from '../contracts/search-space.ts';
import { gbdt } from '../ml/gbdt/gbdt.ts';
import { GbdtParametersSchema } from '../ml/gbdt/parameters.ts';
import type { LabelledRows } from '../ml/trainer.ts';

/** What is made least. */
export interface Problem {
  readonly name: string;
  readonly space: SearchSpace;
  readonly objective: (values: Readonly<Record<string, number>>) => number | Promise<number>;
  /** The least value; null where nobody knows it: then the least that any search found. */
  readonly least: number | null;
}

const HARTMANN_A = [
  [10, 3, 17, 3.5, 1.7, 8],
  [0.05, 10, 17, 0.1, 8, 14],
  [3, 3.5, 1.7, 10, 17, 8],
  [17, 8, 0.05, 10, 0.1, 14],
] as const;
const HARTMANN_P = [
  [1312, 1696, 5569, 124, 8283, 5886],
  [2329, 4135, 8307, 3736, 1004, 9991],
  [2348, 1451, 3522, 2883, 3047, 6650],
  [4047, 8828, 8732, 5743, 1091, 381],
] as const;
const HARTMANN_C = [1, 1.2, 3, 3.2] as const;

/** Branin and Hartmann 6 as in Surjanovic and Bingham's library; Ackley over a plane, a whole number, a logarithm and a choice. */
export const FUNCTIONS: readonly Problem[] = [
  {
    name: 'branin',
    space: { x: uniform(-5, 10), y: uniform(0, 15) },
    least: 0.397887,
    objective: ({ x = 0, y = 0 }) => (y - (5.1 / (4 * Math.PI ** 2)) * x * x + (5 / Math.PI) * x - 6) ** 2 + 10 * (1 - 1 / (8 * Math.PI)) * Math.cos(x) + 10,
  },
  {
    name: 'hartmann6',
    space: Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`x${String(i)}`, uniform(0, 1)])),
    least: -3.32237,
    objective: (values) => {
      let sum = 0;
      HARTMANN_C.forEach((c, k) => {
        let inner = 0;
        for (let i = 0; i < 6; i++) inner += (HARTMANN_A[k]?.[i] ?? 0) * ((values[`x${String(i)}`] ?? 0) - (HARTMANN_P[k]?.[i] ?? 0) / 10_000) ** 2;
        sum += c * Math.exp(-inner);
      });
      return -sum;
    },
  },
  {
    name: 'ackley, mixed types',
    space: { x: uniform(-20, 30), y: uniform(-30, 20), n: int(-20, 15), s: logUniform(1e-4, 1e2), k: choice([3, 0, 7, 12]) },
    least: 0,
    objective: ({ x = 0, y = 0, n = 0, s = 1, k = 0 }) => {
      const at = [x, y, n, Math.log(s / 0.01), k];
      const mean = (of: (value: number) => number): number => at.reduce((sum, value) => sum + of(value), 0) / at.length;
      return -20 * Math.exp(-0.2 * Math.sqrt(mean((v) => v * v))) - Math.exp(mean((v) => Math.cos(2 * Math.PI * v))) + 20 + Math.E;
    },
  },
];

const ADULT_COLUMNS = 'age workclass fnlwgt education education_num marital occupation relationship race sex gain loss hours country income'.split(' ');
const ADULT_NUMBERS: ReadonlySet<string> = new Set(['age', 'fnlwgt', 'education_num', 'gain', 'loss', 'hours']);
const ADULT_ROWS = 2_000;

/** Log loss of a small gbdt on 2,000 other rows of Adult; undefined where the project has no shared data beside it. */
export async function adultProblem(): Promise<Problem | undefined> {
  const shared = ['../../shared/data/adult', '../../../shared/data/adult'].map((path) => fileURLToPath(new URL(path, import.meta.url))).find(existsSync);
  if (shared === undefined) return undefined;
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const names = ADULT_COLUMNS.map((c) => `'${c}'`).join(', ');
    const cells = ADULT_COLUMNS.slice(0, -1).map((c) =>
      ADULT_NUMBERS.has(c) ? `trim("${c}")::DOUBLE` : `(dense_rank() OVER (ORDER BY trim("${c}")))::DOUBLE`,
    );
    const file = join(shared, 'adult-train.csv').replaceAll("'", "''");
    const result = await connection.runAndReadAll(
      `SELECT ${cells.join(', ')}, (income LIKE '%>50K%')::DOUBLE FROM (SELECT *, row_number() OVER () AS n FROM read_csv('${file}', header = false, all_varchar = true, names = [${names}], null_padding = true) WHERE income IS NOT NULL LIMIT ${String(2 * ADULT_ROWS)}) ORDER BY n`,
    );
    const columns = result.getColumns().map((column) => column.map(Number));
    const part = (from: number): LabelledRows => ({
      x: {
        kind: 'dense',
        rows: ADULT_ROWS,
        columns: columns.length - 1,
        data: Float32Array.from(columns.slice(0, -1).flatMap((column) => column.slice(from, from + ADULT_ROWS))),
      },
      y: Float64Array.from((columns.at(-1) ?? []).slice(from, from + ADULT_ROWS)),
    });
    const [train, validation] = [part(0), part(ADULT_ROWS)];
    return {
      name: 'adult',
      space: {
        leaves: int(2, 64, { log: true }),
        learningRate: logUniform(0.01, 0.5),
        minDataInLeaf: int(5, 200, { log: true }),
        l2: uniform(0, 10),
        featureFraction: uniform(0.3, 1),
      },
      least: null,
      objective: async (values) => {
        const parameters = GbdtParametersSchema.parse({ ...values, trees: 20 });
        const trained = await gbdt({ kind: 'binary' }, parameters, train, undefined, { seed: 0, threads: 1 });
        const answers = trained.predict(validation.x);
        let loss = 0;
        validation.y.forEach((y, row) => (loss -= Math.log(Math.max(1e-15, answers[2 * row + y] ?? 0)) / ADULT_ROWS));
        return loss;
      },
    };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
