import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import { MillraceError } from '../contracts/errors.ts';
import { summarise, type Benchmark, type BenchmarkOptions } from './figure.ts';
import { cacheFolder, ensurePythonEnvironment } from './python-environment.ts';

const execute = promisify(execFile);

/** Those of train-gbdt, so that one environment serves both. */
const REQUIREMENTS = ['lightgbm==4.6.0', 'numpy==2.4.6', 'scipy==1.17.1', 'scikit-learn==1.9.1'];

/** Changes when the prepared files do: it is part of their folder's name. */
const DATA_VERSION = 1;

const COLUMNS = [...Array.from({ length: 28 }, (_, i) => `V${String(i)}`), 'Amount'];
const FOLDS = 5;

/** The same for every choice below, and what scikit-learn is given. */
const PARAMETERS = { trees: 200, learningRate: 0.03, leaves: 31, l2: 1, minDataInLeaf: 50 };

/** How the imbalance (1 fraud in 636 payments) may be handled: gbdt's option `classWeight`. */
const CHOICES = {
  none: 'none',
  'fraud × 5': { '1': 5 },
  balanced: 'balanced',
} as const;
type Choice = keyof typeof CHOICES;

interface CrossValidation {
  readonly seconds: number;
  readonly averagePrecision: number;
  readonly peakMib: number;
}

const SKLEARN_SCRIPT = `
import json, resource, sys, time
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
folder, rows, columns, folds, trees = sys.argv[1], *map(int, sys.argv[2:6])
x = np.ascontiguousarray(np.fromfile(f"{folder}/columns.f32", np.float32).reshape(columns, rows).T)
y, fold_of = (np.fromfile(f"{folder}/{name}.u8", np.uint8) for name in ("labels", "folds"))
started, found = time.perf_counter(), []
for fold in range(folds):
    test = fold_of == fold
    model = HistGradientBoostingClassifier(learning_rate=0.03, max_iter=trees, l2_regularization=1.0, min_samples_leaf=50, early_stopping=False, random_state=0)
    model.fit(x[~test], y[~test])
    found.append(average_precision_score(y[test], model.predict_proba(x[test])[:, 1]))
seconds = time.perf_counter() - started
print(json.dumps(dict(seconds=seconds, averagePrecision=float(np.mean(found)), folds=found, peakMib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))
`;

/**
 * Features, labels and two assignments of folds. Payments with the same features are in the same fold: a fifth of the
 * rows are duplicates of others. Groups of such payments are dealt to the folds by their hash, those with a fraud apart
 * from those without: each fold has a fifth of both.
 */
async function prepareData(): Promise<{ readonly folder: string; readonly rows: number }> {
  const found = ['../../shared/data/creditcard', '../../../shared/data/creditcard']
    .map((path) => fileURLToPath(new URL(`${path}/creditcard_trunc40pct.parquet`, import.meta.url)))
    .find(existsSync);
  if (found === undefined) {
    throw new MillraceError('NOT_FOUND', 'The benchmark fraud needs the card payments, which are not part of the project.', {
      problems: [{ path: 'shared/data/creditcard/creditcard_trunc40pct.parquet', message: 'is not in the folder beside the project' }],
      fix: 'Put the folder shared/data beside the project, or run another benchmark.',
    });
  }
  const folder = join(cacheFolder(), 'bench', `fraud-v${DATA_VERSION}`);
  const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
  const connection = await instance.connect();
  try {
    const features = COLUMNS.map((name) => `"${name}"`).join(', ');
    const source = `read_parquet('${found.replaceAll("'", "''")}')`;
    const rows = Number((await connection.runAndReadAll(`SELECT count(*) FROM ${source}`)).getColumns()[0]?.[0]);
    if (existsSync(folder)) return { folder, rows };
    const dealt = (salt: number): string => `(row_number() OVER (PARTITION BY fraud ORDER BY hash(key, ${salt}), key) - 1) % ${FOLDS}`;
    const result = await connection.runAndReadAll(`
      WITH payments AS (SELECT ${features}, label, concat_ws('|', ${features}) AS key, row_number() OVER () AS n FROM ${source}),
        keyed AS (SELECT key, max(label) AS fraud FROM payments GROUP BY key),
        folds AS (SELECT key, ${dealt(0)} AS judged, ${dealt(1)} AS chosen FROM keyed)
      SELECT ${COLUMNS.map((name) => `"${name}"::FLOAT`).join(', ')}, label::UTINYINT, judged::UTINYINT, chosen::UTINYINT
      FROM payments JOIN folds USING (key) ORDER BY n`);
    const columns = result.getColumns();
    const making = `${folder}.${process.pid}`;
    await mkdir(making, { recursive: true });
    await writeFile(join(making, 'columns.f32'), new Float32Array(columns.slice(0, COLUMNS.length).flatMap((column) => column.map(Number))));
    for (const [at, name] of ['labels', 'folds', 'choosing-folds'].entries())
      await writeFile(join(making, `${name}.u8`), Uint8Array.from(columns[COLUMNS.length + at] ?? [], Number));
    await rename(making, folder).catch(async (error: unknown) => {
      // Another run was faster.
      await rm(making, { recursive: true, force: true });
      if (!existsSync(folder)) throw error;
    });
    return { folder, rows };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

const readResult = (stdout: string): CrossValidation => JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as CrossValidation;

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const { folder, rows } = await prepareData();
  const python = await ensurePythonEnvironment('lightgbm', REQUIREMENTS);
  const source = import.meta.url.endsWith('.ts');
  const child = fileURLToPath(new URL(`./fraud-child${source ? '.ts' : '.js'}`, import.meta.url));
  const trees = quick ? 50 : PARAMETERS.trees;
  const sizes = [folder, String(rows), String(COLUMNS.length), String(FOLDS)];
  const ours = async (choice: Choice, folds: 'folds' | 'choosing-folds'): Promise<CrossValidation> => {
    const parameters = JSON.stringify({ ...PARAMETERS, trees, classWeight: CHOICES[choice] });
    return readResult((await execute(process.execPath, [...(source ? ['--import', 'tsx'] : []), child, ...sizes, parameters, folds])).stdout);
  };
  // Chosen on other folds than the ones that judge: the figure is not the best of three.
  let best: { readonly choice: Choice; readonly value: number } | undefined;
  for (const choice of Object.keys(CHOICES) as Choice[]) {
    const { averagePrecision: value } = await ours(choice, 'choosing-folds');
    if (best === undefined || value > best.value) best = { choice, value };
    const figure = { bench: 'fraud', metric: 'average_precision_choosing', variant: `classWeight ${choice}`, unit: 'ap', better: 'higher' } as const;
    emit({ ...figure, ...summarise([value]), ...(quick ? { quick } : {}) });
  }
  const { choice } = best ?? { choice: 'none' as const };
  const mine: CrossValidation[] = [];
  const theirs: CrossValidation[] = [];
  for (let repetition = 0; repetition < (quick ? 1 : 3); repetition += 1) {
    mine.push(await ours(choice, 'folds'));
    theirs.push(readResult((await execute(python, ['-c', SKLEARN_SCRIPT, ...sizes, String(trees)], { env: { ...process.env, OMP_NUM_THREADS: '2' } })).stdout));
  }
  const report = (metric: 'seconds' | 'peakMib', name: string, unit: string): void => {
    const summary = summarise(mine.map((result) => result[metric]));
    const peerValue = summarise(theirs.map((result) => result[metric])).value;
    const figure = { bench: 'fraud', metric: name, variant: `classWeight ${choice}, ${FOLDS} folds`, unit, peer: 'sklearn', better: 'lower' } as const;
    emit({ ...figure, ...summary, peerValue, ratio: summary.value / peerValue, ...(quick ? { quick } : {}) });
  };
  const { value, ...range } = summarise(mine.map((result) => result.averagePrecision));
  const peerValue = summarise(theirs.map((result) => result.averagePrecision)).value;
  // The bar is of the value itself: no ratio stands beside it, which the bar would be held against.
  const precision = { bench: 'fraud', metric: 'average_precision', unit: 'ap', better: 'higher', value, ...range } as const;
  emit({ ...precision, variant: `classWeight ${choice}, ${FOLDS} folds`, peer: 'sklearn', peerValue, bar: 0.78, ...(quick ? { quick } : {}) });
  report('seconds', 'seconds', 's');
  report('peakMib', 'peak_mib', 'MiB');
}

export const benchmark: Benchmark = {
  name: 'fraud',
  summary: 'Card payments, 1 fraud in 636: average precision of gbdt by cross-validation, the imbalance handled by classWeight, beside scikit-learn',
  run,
};
