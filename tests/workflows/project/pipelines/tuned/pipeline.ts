import { categorical, choice, definePipeline, gbdt, ingest, int, linear, logUniform, numeric, split, tune, uniform } from 'millrace';
import { z } from 'zod';

const Settings = {
  trials: z.number().default(6),
  parallel: z.number().default(2),
  seed: z.number().default(1),
  budget: z.object({ time: z.number().optional(), cpuSeconds: z.number().optional(), cost: z.number().optional() }).default({}),
  warmStart: z.union([z.literal('last'), z.object({ run: z.string() })]).optional(),
};

const features = { distance: numeric(), carrier: categorical() };

async function parts() {
  const raw = await ingest({ source: { format: 'csv', path: 'data/flights.csv' }, name: 'flights' });
  return split(raw, { by: 'random', validationFraction: 0.3, testFraction: 0.2, seed: 7 });
}

/** One trainer, stopped early where it is asked for. */
export const tunedTrees = definePipeline(
  { params: z.object({ ...Settings, scheduler: z.enum(['none', 'asha', 'median']).default('none'), low: z.number().default(2) }) },
  async ({ scheduler, low, budget: { time, cpuSeconds, cost }, warmStart, ...settings }) => {
    const { train, validation } = await parts();
    return tune(gbdt({ trees: 16, minDataInLeaf: 5 }), {
      train,
      validation,
      target: 'late',
      features,
      metric: 'logLoss',
      space: { leaves: int(low, 32, { log: true }), learningRate: logUniform(0.01, 0.5), l2: uniform(0, 5) },
      ...(scheduler === 'none' ? {} : { scheduler }),
      budget: {
        ...(time === undefined ? {} : { time }),
        ...(cpuSeconds === undefined ? {} : { cpuSeconds }),
        ...(cost === undefined ? {} : { cost }),
      },
      ...(warmStart === undefined ? {} : { warmStart }),
      ...settings,
    });
  },
);

/** Several trainers and recipes, with what belongs to each. */
export const tunedChoice = definePipeline({ params: z.object(Settings) }, async ({ budget: _budget, warmStart: _warm, ...settings }) => {
  const { train, validation } = await parts();
  return tune(
    { trees: gbdt({ trees: 10, minDataInLeaf: 5 }), line: linear() },
    {
      train,
      validation,
      target: 'late',
      features: choice({ plain: { distance: numeric() }, both: features }),
      metric: 'auc',
      space: {
        trees: { leaves: int(2, 16), stopping: choice({ never: { earlyStoppingRounds: 0 }, early: { earlyStoppingRounds: int(1, 5) } }) },
        line: { l2: logUniform(0.001, 10) },
      },
      ...settings,
    },
  );
});

/** A space that no trainer takes. */
export const tunedWrongly = definePipeline(
  { params: z.object({ where: z.enum(['space', 'trainer', 'settings', 'failing']).default('space') }) },
  async ({ where }) => {
    const { train, validation } = await parts();
    const common = { train, validation, target: 'late', features, metric: 'auc', trials: 30 } as const;
    if (where === 'space')
      return tune(gbdt(), { ...common, space: { leaves: int(9, 3), learningRate: logUniform(0, 1), l2: choice([]), x: { dimension: 'normal' } } });
    if (where === 'trainer') return tune(gbdt(), { ...common, space: { leaves: int(1, 10), depth: int(1, 3) } });
    if (where === 'settings') return tune(gbdt(), { ...common, trials: 0, parallel: 0, scheduler: { rule: 'asha', reduction: 1 }, space: {} });
    return tune(gbdt({ trees: 2 }), { ...common, features: { nothing: numeric() }, space: { leaves: int(2, 10) } });
  },
);
