import { call, categorical, col, definePipeline, gbdt, ingest, int, logUniform, numeric, set, split, tune } from 'millrace';
import { z } from 'zod';

/** With the same seed it is the same search: a second run takes each training from the cache, and what is left is what the engine costs. */
export const searchFlights = definePipeline({ params: z.object({ trials: z.number().int().min(1).default(100) }) }, async ({ trials }) => {
  const raw = await ingest({
    source: { format: 'json', path: 'package:vega-datasets/data/flights-2k.json' },
    name: 'flights',
    transforms: [set('late', call('greater', col('delay'), 15))],
  });
  const { train, validation } = await split(raw, { by: 'random', validationFraction: 0.3, testFraction: 0.2, seed: 3 });
  return tune(gbdt({ trees: 2 }), {
    train,
    validation,
    target: 'late',
    features: { distance: numeric(), origin: categorical() },
    metric: 'logLoss',
    space: { leaves: int(2, 64, { log: true }), learningRate: logUniform(0.005, 0.3) },
    trials,
  });
});
