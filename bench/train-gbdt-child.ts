/**
 * One training for the benchmark `train-gbdt`, in a process of its own so that its peak memory can be read:
 * `train-gbdt-child FOLDER TRAIN_ROWS TEST_ROWS THREADS CATEGORIES` (JSON: codes of each column, 0 for numbers). Prints one line of JSON: seconds, cpuSeconds, auc, peakMib.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gbdt } from '../ml/gbdt/gbdt.ts';
import { GbdtParametersSchema } from '../ml/gbdt/parameters.ts';
import { rocAuc } from '../ml/gbdt/roc-auc.ts';

const [folder = '', trainRowsText, testRowsText, threadsText, categoriesText = '[]'] = process.argv.slice(2);
const [trainRows, testRows, threads] = [Number(trainRowsText), Number(testRowsText), Number(threadsText)];

/** Reads a file straight into shared memory: no second copy counts towards the peak. */
function readShared(name: string): SharedArrayBuffer {
  const path = join(folder, name);
  const buffer = new SharedArrayBuffer(statSync(path).size);
  const file = openSync(path, 'r');
  readSync(file, new Uint8Array(buffer));
  closeSync(file);
  return buffer;
}

const matrix = (name: string, rows: number): { readonly kind: 'dense'; readonly rows: number; readonly columns: number; readonly data: Float32Array } => {
  const data = new Float32Array(readShared(`${name}.columns.f32`));
  return { kind: 'dense', rows, columns: data.length / rows, data };
};
const labels = (name: string): Float64Array => Float64Array.from(new Uint8Array(readShared(`${name}.labels.u8`)));

const categories = JSON.parse(categoriesText) as number[];
const train = { x: matrix('train', trainRows), y: labels('train'), ...(categories.some((codes) => codes > 0) ? { categories } : {}) };
const cpuBefore = process.cpuUsage();
const started = performance.now();
const model = await gbdt({ kind: 'binary' }, GbdtParametersSchema.parse({ trees: 100, leaves: 31, learningRate: 0.1 }), train, undefined, { seed: 0, threads });
const seconds = (performance.now() - started) / 1000;
const cpu = process.cpuUsage(cpuBefore);
const cpuSeconds = (cpu.user + cpu.system) / 1e6;
const peakMib = process.resourceUsage().maxRSS / 1024;
const predictions = model.predict(matrix('test', testRows));
const auc = rocAuc(
  labels('test'),
  predictions.filter((_, index) => index % 2 === 1),
);
process.stdout.write(`${JSON.stringify({ seconds, cpuSeconds, auc, peakMib })}\n`);
