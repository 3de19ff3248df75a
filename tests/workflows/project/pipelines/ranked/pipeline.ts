import { champion, definePipeline, evaluate, gbdt, ingest, int, linear, numeric, register, split, train, tune } from 'millrace';
import { z } from 'zod';

/** Searches whose rows are ranked: one training as it is told, or a tuning that ends with a version. */
export const ranked = definePipeline(
  {
    params: z.object({
      tuned: z.boolean().default(false),
      trainer: z.enum(['gbdt', 'linear']).default('gbdt'),
      group: z.string().optional(),
      task: z.enum(['auto', 'regression', 'ranking']).default('auto'),
      sampleRows: z.number().optional(),
      leaves: z.number().default(4),
    }),
  },
  async ({ tuned, trainer, group, task, sampleRows, leaves }) => {
    const raw = await ingest({ source: { format: 'csv', path: 'data/searches.csv' }, name: 'searches' });
    const parts = await split(raw, { by: 'group', column: 'search', validationFraction: 0.2, testFraction: 0.3, seed: 2 });
    const { validation } = parts;
    const shared = {
      target: 'relevance',
      features: { price: numeric(), rating: numeric() },
      validation,
      task,
      ...(group === undefined ? {} : { group }),
      ...(sampleRows === undefined ? {} : { sampleRows }),
    };
    if (!tuned) return train(parts.train, { ...shared, trainer: trainer === 'gbdt' ? gbdt({ trees: 5, leaves }) : linear() });
    const { best } = await tune(gbdt({ trees: 20, minDataInLeaf: 5 }), {
      ...shared,
      train: parts.train,
      metric: 'ndcg@10',
      space: { leaves: int(leaves, leaves + 6) },
      trials: 3,
      scheduler: 'median',
    });
    const judged = await evaluate(best, { on: parts.test, slices: ['shop'], leastSliceRows: 20, accept: { beats: champion('ranked', { notWorse: 0.5 }) } });
    const { version } = await register(judged, { model: 'ranked' });
    return { report: judged.report, version };
  },
);
