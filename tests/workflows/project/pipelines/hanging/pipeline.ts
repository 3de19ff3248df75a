import { definePipeline, ingest, steps } from 'millrace';
import { z } from 'zod';
import type * as mySteps from './steps.ts';

const { hangOnce } = steps<typeof mySteps>({ cache: false, stallAfter: '3 seconds' });

export const hanging = definePipeline({ params: z.object({ file: z.string() }) }, async ({ file }) => {
  const raw = await ingest({ source: { format: 'csv', path: 'data/flights.csv' }, name: 'flights' });
  const { rows } = await hangOnce(raw, { file });
  return { rows };
});
