import { definePipeline, featureView, ingest, materialize, over } from 'millrace';
import { z } from 'zod';

/** Online features of a shop; `fail` ends the run after they were put into service. */
export const prices = definePipeline(
  {
    params: z.object({
      path: z.string(),
      view: z.string(),
      asOf: z.iso.datetime().optional(),
      fail: z.boolean().default(false),
      window: z.literal(['1 day', '2 days']).default('1 day'),
    }),
  },
  async ({ path, view: name, asOf, fail, window }) => {
    const view = featureView({ name, entity: 'shop', eventTime: 'at', features: { price: 'price', sales: over(window, 'count') } });
    const from = await ingest({ source: { format: 'csv', path }, name: 'prices' });
    const online = await materialize(view, { from, ...(asOf === undefined ? {} : { asOf }) });
    if (fail) throw new Error('broken after materialize');
    return online;
  },
);
