/**
 * One training for the benchmark `train-text`, in a process of its own so that its peak memory can be read:
 * `train-text-child FILE`, a JSON file of `{ train, test }` with `texts` and `labels`. Prints one line of JSON: seconds,
 * cpuSeconds, accuracy, peakMib. The time is that of fitting features and model, and of the predictor's ONNX file.
 */
import { readFileSync } from 'node:fs';
import type { RawTable } from '../contracts/columns.ts';
import { text } from '../contracts/features.ts';
import { createScorer } from '../ml/score.ts';
import { trainPredictor } from '../ml/train-predictor.ts';
import type { LabelledTexts } from './labelled-texts.ts';

const [file = ''] = process.argv.slice(2);
const data = JSON.parse(readFileSync(file, 'utf8')) as { readonly train: LabelledTexts; readonly test: LabelledTexts };

const table = ({ texts, labels }: LabelledTexts): RawTable => ({
  rows: texts.length,
  columns: new Map([
    ['text', { kind: 'string', dictionary: texts, codes: Int32Array.from(texts.keys()) }],
    ['label', { kind: 'number', values: Float64Array.from(labels) }],
  ]),
});
const [train, test] = [table(data.train), table(data.test)];

const cpuBefore = process.cpuUsage();
const started = performance.now();
const trained = await trainPredictor({
  trainer: { name: 'linear', parameters: { l2: 1, tolerance: 1e-4 } },
  features: { text: text({ ngrams: 2, maxFeatures: 50_000, minDocuments: 2 }) },
  train,
  target: 'label',
  seed: 0,
  threads: 1,
});
const seconds = (performance.now() - started) / 1000;
const cpu = process.cpuUsage(cpuBefore);
const cpuSeconds = (cpu.user + cpu.system) / 1e6;
const peakMib = process.resourceUsage().maxRSS / 1024;
const scorer = await createScorer(trained.onnx, trained.graph);
const { values } = await scorer.score(test);
await scorer.close();
const right = data.test.labels.filter((label, row) => ((values[2 * row + 1] ?? 0) > 0.5 ? 1 : 0) === label).length;
process.stdout.write(`${JSON.stringify({ seconds, cpuSeconds, accuracy: right / test.rows, peakMib })}\n`);
