import { definePipeline, ingest, label } from 'millrace';
import { z } from 'zod';

/** Asks people about two words. */
export const words = definePipeline({ params: z.object({ queue: z.string().default('words') }) }, async ({ queue }) => {
  const raw = await ingest({ source: { format: 'csv', path: 'data/words.csv' }, name: 'words' });
  return { labelled: await label(raw, { column: 'kind', classes: ['number', 'name'], queue }) };
});
