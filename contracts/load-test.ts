import { z } from 'zod';
import { NameSchema } from './ids.ts';
import { DatasetRefSchema, VersionRefSchema } from './references.ts';

export const LoadTestInputSchema = z.object({
  version: VersionRefSchema,
  requestsPerSecond: z.number().positive().max(200_000),
  /** The 99th percentile of latencies must not be above. */
  p99Ms: z.number().positive(),
  forMs: z.number().int().min(1_000).max(3_600_000).default(30_000),
  /** Where requests come from: the endpoint's prediction log, or a dataset's rows, one a request. */
  from: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('endpoint'), name: NameSchema }),
    z.object({ kind: z.literal('dataset'), dataset: DatasetRefSchema }),
  ]),
  /** Largest share of requests that may not be answered with 200. */
  maxErrorRate: z.number().min(0).max(1).default(0),
});
export type LoadTestInput = z.infer<typeof LoadTestInputSchema>;

/** What a load test found. Latencies are counted from when a request was due. */
export interface LoadTestFigures {
  readonly kind: 'loadTest';
  readonly requests: number;
  readonly requestsPerSecond: number;
  /** Answered with 200 in time (`p99Ms` after the last request was due, at the latest), a second. */
  readonly answeredPerSecond: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Share of requests that were not answered with 200. */
  readonly errorRate: number;
  /** What the generator itself added to latencies, 99th percentile. */
  readonly generatorP99Ms: number;
}
