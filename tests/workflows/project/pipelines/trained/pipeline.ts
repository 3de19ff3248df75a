import {
  approval,
  canary,
  categorical,
  champion,
  columnsExist,
  definePipeline,
  deploy,
  evaluate,
  expectations,
  ingest,
  linear,
  monitor,
  notNull,
  numeric,
  register,
  rowCount,
  split,
  steps,
  train,
  validate,
} from 'millrace';
import { z } from 'zod';
import type * as trainedSteps from './steps.ts';

const { convertDistance, convertForTraining, inspect } = steps<typeof trainedSteps>();

/** Raw rows to a registered version, as short as it gets. */
export const trained = definePipeline(
  {
    params: z.object({
      source: z.string().default('data/flights.csv'),
      model: z.string().default('late'),
      factor: z.number().default(1.609),
      target: z.string().default('late'),
      l2: z.number().default(1),
      cache: z.boolean().default(true),
      deploy: z.boolean().default(false),
      counterpart: z.boolean().default(true),
      accept: z.array(z.string()).default([]),
    }),
  },
  async (p) => {
    const raw = await ingest({ source: { format: 'csv', path: p.source }, name: 'flights' }, { cache: p.cache });
    const checked = await validate(raw, {
      expectations: expectations({ table: [rowCount({ min: 1 }), columnsExist(['distance', 'carrier'])], distance: [notNull()] }),
    });
    const converted = await (p.counterpart ? convertDistance(checked, { factor: p.factor }) : convertForTraining(checked, { factor: p.factor }));
    const { rows } = await inspect(converted.rows);
    const { train: fit, validation, test } = await split(converted, { by: 'random', seed: 1 });
    const candidate = await train(fit, {
      trainer: linear({ l2: p.l2 }),
      target: p.target,
      features: { converted: numeric(), carrier: categorical() },
      validation,
    });
    const judged = await evaluate(candidate, { on: test, accept: { atLeast: { auc: 0.5 }, beats: champion(p.model) } });
    const version = await register(judged, { model: p.model, acceptUnserved: p.accept });
    if (p.deploy) {
      await approval('production', { version, when: false });
      await deploy(version, { endpoint: p.model, rollout: canary({ percent: [50], bake: 500 }) });
      await monitor(p.model, { every: '1 hour', leastRows: 50, retrainOn: { psi: 0.25, windows: 2 } });
    }
    return { version: version.version, predictor: version.predictor, rows };
  },
);
