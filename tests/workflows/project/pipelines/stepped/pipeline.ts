import { definePipeline, ingest, steps } from 'millrace';
import { z } from 'zod';
import type * as mySteps from './steps.ts';

const { addDouble, onlyCarrier, describe, leave, notADataset, whereAmI } = steps<typeof mySteps>();

export const stepped = definePipeline(
  { params: z.object({ carrier: z.string().default('A'), fail: z.boolean().default(false) }) },
  async ({ carrier, fail }) => {
    const raw = await ingest({ source: { format: 'csv', path: 'data/flights.csv' }, name: 'flights' });
    const doubled = await addDouble(raw, { column: 'distance' });
    const chosen = await onlyCarrier(doubled, { carrier });
    if (fail) await notADataset(chosen);
    return { raw, doubled, chosen, ...(await describe(chosen.rows, carrier)) };
  },
);

export const valued = definePipeline({ params: z.object({ leaves: z.boolean().default(false) }) }, async ({ leaves }) =>
  leaves ? await leave() : await whereAmI(),
);
