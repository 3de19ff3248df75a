import { definePipeline, ingest, steps } from 'millrace';
import { z } from 'zod';
import type * as mySteps from './steps.ts';

const { hungry } = steps<typeof mySteps>({ onOutOfMemory: ['cpu-large'], cache: false });
const { hungry: onOnePool } = steps<typeof mySteps>({ cache: false });

export const climbing = definePipeline(
  { params: z.object({ mib: z.number().default(100), ladder: z.boolean().default(true) }), priority: 2 },
  async ({ mib, ladder }) => {
    const raw = await ingest({ source: { format: 'csv', path: 'data/flights.csv' }, name: 'flights' });
    const { rows } = await (ladder ? hungry : onOnePool)(raw, { mib });
    return { rows };
  },
);
