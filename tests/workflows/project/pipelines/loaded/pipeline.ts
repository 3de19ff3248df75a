import { definePipeline, ingest, loadTest } from 'millrace';
import { z } from 'zod';

/** Puts a registered version under load. */
export const loaded = definePipeline(
  {
    params: z.object({
      predictor: z.string(),
      path: z.string().optional(),
      from: z.string().default('late'),
      requestsPerSecond: z.number().default(40),
      p99Ms: z.number().default(60_000),
      maxErrorRate: z.number().default(0),
    }),
  },
  async ({ predictor, path, from, ...limits }) => {
    const version = { kind: 'version' as const, model: 'late', version: 1, predictor };
    const rows = path === undefined ? from : await ingest({ source: { format: 'csv', path }, name: 'requests' });
    return loadTest(version, { ...limits, for: '1 second', from: rows });
  },
);
