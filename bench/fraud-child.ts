/**
 * One cross-validation for the benchmark `fraud`, in a process of its own: `fraud-child FOLDER ROWS COLUMNS FOLDS PARAMETERS [FILE]`
 * (file of the folds without its ending: `folds`).
 * Prints one line of JSON: seconds, averagePrecision (mean over the folds), peakMib.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gbdt } from '../ml/gbdt/gbdt.ts';
import { GbdtParametersSchema } from '../ml/gbdt/parameters.ts';
import { createJudge } from '../ml/metrics.ts';
import { selectRows } from '../ml/train-predictor.ts';

const [folder = '', rowsText, columnsText, foldsText, parametersText = '{}', foldsFile = 'folds'] = process.argv.slice(2);
const [rows, columns, folds] = [Number(rowsText), Number(columnsText), Number(foldsText)];
const floats = (name: string): Float32Array => {
  const bytes = readFileSync(join(folder, name));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
};
const shared = new Float32Array(new SharedArrayBuffer(rows * columns * 4));
shared.set(floats('columns.f32'));
const x = { kind: 'dense', rows, columns, data: shared } as const;
const labels = readFileSync(join(folder, 'labels.u8'));
const foldOf = readFileSync(join(folder, `${foldsFile}.u8`));
const parameters = GbdtParametersSchema.parse(JSON.parse(parametersText));

const started = performance.now();
const found: number[] = [];
for (let fold = 0; fold < folds; fold += 1) {
  const part = (inside: boolean) => {
    const index = Uint32Array.from(foldOf.keys()).filter((row) => (foldOf[row] === fold) === inside);
    return { x: selectRows(x, index), y: Float64Array.from(index, (row) => labels[row] ?? 0), classes: ['0', '1'] };
  };
  const test = part(true);
  const model = await gbdt({ kind: 'binary' }, parameters, part(false), undefined, { seed: 0, threads: 2 });
  const predictions = model.predict(test.x);
  found.push(createJudge({ kind: 'binary' }, test.y, predictions).values(['averagePrecision'])['averagePrecision'] ?? Number.NaN);
}
process.stdout.write(
  `${JSON.stringify({ seconds: (performance.now() - started) / 1000, averagePrecision: found.reduce((a, b) => a + b, 0) / folds, folds: found, peakMib: process.resourceUsage().maxRSS / 1024 })}\n`,
);
