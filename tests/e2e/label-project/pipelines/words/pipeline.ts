import { definePipeline, ingest, label } from 'millrace';
import { z } from 'zod';

const WordsParams = z.object({
  queue: z.string().default('words'),
  /** How long it waits for people; 0: for ever. */
  waitMs: z.number().int().min(0).default(0),
  then: z.enum(['fail', 'goOn']).default('fail'),
});

/** Asks people about two words. */
export const words = definePipeline({ params: WordsParams }, async ({ queue, waitMs, then }) => {
  const raw = await ingest({ source: { format: 'csv', path: 'data/words.csv' }, name: 'words' });
  const people = { then, ...(waitMs > 0 ? { deadline: waitMs } : {}) };
  return { labelled: await label(raw, { column: 'kind', classes: ['number', 'name'], queue, people }) };
});
