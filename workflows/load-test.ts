import type { LoadTestFigures } from '../contracts/load-test.ts';
import type { DatasetRef, VersionRef } from '../contracts/references.ts';
import { type Duration, durationMs } from './duration.ts';
import { runStage, type StageOptions } from './run.ts';

export interface LoadTestOptions extends StageOptions {
  readonly requestsPerSecond: number;
  /** The 99th percentile of latencies must not be above. */
  readonly p99Ms: number;
  /** Default 30 seconds. */
  readonly for?: Duration;
  /** The endpoint whose recorded requests are sent, or a dataset whose rows are, one a request. Default: the endpoint of the model's name. */
  readonly from?: string | DatasetRef;
  /** Largest share of requests that may not be answered with 200. Default 0. */
  readonly maxErrorRate?: number;
}

/**
 * Puts a version under load before it gets traffic: a prediction server of its own on the stage's worker, and requests at a steady
 * rate, whether answers come or not.
 *
 * @throws LOAD_TEST_FAILED with each figure that is missed, and by how much; SOURCE_EMPTY where no requests were recorded.
 */
export function loadTest(version: VersionRef, options: LoadTestOptions): Promise<LoadTestFigures> {
  const { requestsPerSecond, p99Ms, for: lasting = '30 seconds', from = version.model, maxErrorRate = 0, ...stage } = options;
  return runStage(
    'loadTest',
    'load-test',
    {
      version,
      requestsPerSecond,
      p99Ms,
      forMs: durationMs(lasting),
      from: typeof from === 'string' ? { kind: 'endpoint', name: from } : { kind: 'dataset', dataset: from },
      maxErrorRate,
    },
    { ...stage, cache: false },
  );
}
