import {
  approval,
  call,
  canary,
  categorical,
  col,
  columnsExist,
  datetime,
  definePipeline,
  deploy,
  evaluate,
  expectations,
  gbdt,
  ingest,
  notNull,
  numeric,
  register,
  replace,
  set,
  split,
  train,
  validate,
} from 'millrace';
import { z } from 'zod';

const FaultParams = z.object({
  /** Trees of the model: the training's length. */
  trees: z.number().int().min(1).default(5),
  /** Where the training runs. */
  pool: z.enum(['cpu', 'gpu']).default('cpu'),
  /** Stages that are computed again although an earlier run has their result. */
  anew: z.array(z.enum(['ingest', 'train'])).default([]),
  /** Where the run waits for a person: before the version is champion, before it gets traffic, before the run ends. */
  gates: z.array(z.enum(['release', 'traffic', 'closing'])).default([]),
  /** How long half of the traffic goes to the new version before all of it does; 0: it is switched at once. */
  bakeSeconds: z.number().min(0).default(0),
});

const usable = expectations({ table: [columnsExist(['date', 'delay', 'distance', 'origin'])], delay: [notNull()] });

/** What the fault tests run: all of a run's stages on 3,000,000 real flights, with a training as long as a test needs. */
export const faultFlights = definePipeline({ params: FaultParams }, async (p) => {
  const raw = await ingest(
    {
      source: { format: 'parquet', path: 'package:vega-datasets/data/flights-3m.parquet' },
      name: 'flights',
      transforms: [set('delayed', call('greater', col('delay'), 15))],
    },
    { cache: !p.anew.includes('ingest') },
  );
  const checked = await validate(raw, { expectations: usable });
  const { train: fit, test } = await split(checked, { by: 'time', column: 'date', validationFraction: 0.01, testFraction: 0.01 });
  const candidate = await train(fit, {
    trainer: gbdt({ trees: p.trees }),
    target: 'delayed',
    features: { date: datetime({ parts: ['month', 'dayOfWeek', 'hour', 'minute'] }), distance: numeric(), origin: categorical() },
    sampleRows: 100_000,
    seed: 11,
    threads: 1,
    pool: p.pool,
    cache: !p.anew.includes('train'),
  });
  const judged = await evaluate(candidate, { on: test, accept: { atLeast: { auc: 0.55 } } });
  const version = await register(judged, { model: 'fault-flights' });
  await approval('release', { version, when: p.gates.includes('release') });
  await approval('traffic', { when: p.gates.includes('traffic') });
  await deploy(version, { endpoint: 'fault-flights', rollout: p.bakeSeconds > 0 ? canary({ percent: [50, 100], bake: p.bakeSeconds * 1000 }) : replace() });
  await approval('closing', { when: p.gates.includes('closing') });
  return { model: version.model, version: version.version, predictor: version.predictor };
});
