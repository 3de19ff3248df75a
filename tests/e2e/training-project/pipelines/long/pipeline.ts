import { call, categorical, col, definePipeline, gbdt, ingest, linear, mlp, numeric, set, train } from 'millrace';
import { z } from 'zod';

/** Trainings that are long enough to be killed behind a checkpoint, which is committed every 3 s. */
const TRAINERS = {
  gbdt: { trainer: gbdt({ trees: 1_800, leaves: 31, minDataInLeaf: 1, learningRate: 0.01 }), target: 'late' },
  // which of 200 airports a flight comes from
  linear: { trainer: linear({ l2: 0.001, tolerance: 1e-12, maxIterations: 70, checkpointEvery: 2 }), target: 'origin' },
  mlp: { trainer: mlp({ hidden: [64], epochs: 18, earlyStoppingEpochs: 0 }), target: 'late' },
} as const;

export const longTraining = definePipeline({ params: z.object({ trainer: z.enum(['gbdt', 'linear', 'mlp']) }) }, async ({ trainer }) => {
  const raw = await ingest({
    source: { format: 'json', path: 'package:vega-datasets/data/flights-10k.json' },
    name: 'flights',
    transforms: [set('late', call('greater', col('delay'), 15))],
  });
  const features = { distance: numeric(), destination: categorical({ encode: 'oneHot', minCount: 1 }) };
  // never taken from the cache, so that there is something to kill
  return train(raw, { ...TRAINERS[trainer], features, seed: 11, threads: 1, name: 'long', cache: false });
});
