import {
  approval,
  call,
  canary,
  categorical,
  champion,
  col,
  datetime,
  definePipeline,
  deploy,
  evaluate,
  gbdt,
  ingest,
  mlp,
  monitor,
  numeric,
  register,
  select,
  set,
  split,
  train,
  validate,
} from 'millrace';
import { flightExpectations } from './expectations.ts';
import { FlightDelayParams } from './params.ts';

const features = {
  date: datetime({ parts: ['month', 'day', 'dayOfWeek', 'hour', 'minute'] }),
  distance: numeric(),
  origin: categorical(),
  destination: categorical(),
};

/** Will this flight be late? Trained on real US flights of 2001, judged on flights later than any it was trained on. */
export const flightDelay = definePipeline(
  {
    params: FlightDelayParams,
    purpose: {
      task: 'Tell whether a flight will be late by more than a quarter of an hour, from its schedule alone.',
      decision: 'Which passengers to warn, and which connections to hold',
      outcome: 'the delay at departure',
      businessMetric: 'missed connections a day',
      owner: 'operations',
    },
  },
  async (p) => {
    const raw = await ingest({
      source: { format: 'parquet', path: p.source },
      name: 'flights',
      transforms: [set('delayed', call('greater', col('delay'), p.delayedAfterMinutes))],
    });
    const checked = await validate(raw, { expectations: flightExpectations });
    const { train: fit, validation, test } = await split(checked, { by: 'time', column: 'date', validationFraction: 0.1, testFraction: 0.2 });

    const shared = { target: 'delayed', features, validation, seed: p.seed } as const;
    const candidates = await Promise.all([
      train(fit, { ...shared, trainer: gbdt({ trees: p.trees }), sampleRows: p.treeRows, validationRows: 100_000 }),
      train(fit, { ...shared, trainer: mlp({ hidden: [32], epochs: 3 }), sampleRows: p.networkRows, validationRows: 5_000, gpu: 'preferred' }),
    ]);
    const winner = await select(candidates, { on: validation, metric: 'auc' });
    const judged = await evaluate(winner, { on: test, slices: ['origin'], accept: { atLeast: { auc: p.leastAuc }, beats: champion('flight-delay') } });

    const version = await register(judged, { model: 'flight-delay' });
    await approval('production', { version, when: p.environment === 'production', approvers: 2, expiresAfter: '3 days' });
    const deployment = await deploy(version, { endpoint: p.endpoint, rollout: canary({ percent: [5, 25, 100], bake: p.bakeSeconds * 1000 }) });
    await monitor(p.endpoint, { every: '1 hour', retrainOn: { drift: 'calibrated', auc: { below: p.leastAuc, windows: 3 } } });
    return { model: version.model, version: version.version, metrics: judged.metrics, endpoint: deployment.endpoint };
  },
);
