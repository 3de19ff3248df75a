import { batchPredict, call, col, definePipeline, ingest, precompute, set, table } from 'millrace';
import { z } from 'zod';

/** Predictions for a file's rows; `fail` ends the run after they were published. */
export const scored = definePipeline(
  {
    params: z.object({
      path: z.string().default('data/flights.csv'),
      version: z.string().default('late'),
      convert: z.boolean().default(false),
      columns: z.array(z.string()).optional(),
      fileRows: z.number().optional(),
      table: z.string().optional(),
      endpoint: z.string().optional(),
      key: z.string().default('id'),
      fail: z.boolean().default(false),
    }),
  },
  async ({ path, version, convert, columns, fileRows, table: name, endpoint, key, fail }) => {
    const transforms = convert ? [set('converted', call('round', call('multiply', col('distance'), 1.609), 3))] : [];
    const rows = await ingest({ source: { format: 'csv', path }, name: 'to-score', transforms });
    const more = fileRows === undefined ? {} : { fileRows };
    const published =
      endpoint === undefined
        ? await batchPredict(version, rows, { ...more, ...(columns === undefined ? {} : { columns }), ...(name === undefined ? {} : { to: table(name) }) })
        : await precompute(version, rows, { ...more, endpoint, key });
    if (fail) throw new Error('broken after publishing');
    return published;
  },
);
