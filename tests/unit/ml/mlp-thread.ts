import { parentPort } from 'node:worker_threads';
import { trainMlp } from '../../../ml/mlp/mlp.ts';
import { MlpParametersSchema } from '../../../ml/mlp/parameters.ts';

/** Trains a tiny network inside a worker thread and posts its answers. */
const x = { kind: 'dense', rows: 4, columns: 1, data: Float32Array.of(-2, -1, 1, 2) } as const;
const model = await trainMlp(
  { kind: 'binary' },
  MlpParametersSchema.parse({ epochs: 60, learningRate: 0.05 }),
  { x, y: Float64Array.of(0, 0, 1, 1) },
  undefined,
  {
    seed: 1,
    threads: 1,
  },
);
parentPort?.postMessage(model.predict(x));
