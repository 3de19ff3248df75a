import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AnsweredRequest } from '../contracts/lineage.ts';
import { findPredictions } from './find-predictions.ts';
import { predictionSegments } from './prediction-segments.ts';

const MEMORY_BYTES = 256 * 1024 ** 2;
const ENDPOINT = /^[a-zA-Z][a-zA-Z0-9_-]{0,99}$/;

/**
 * The request of this id out of the prediction logs under the state folder; null where no log has it. All of them are read
 * unless `endpoint` says whose: nothing but the logs themselves knows a request.
 */
export async function findAnsweredRequest(home: string, requestId: string, endpoint: string | null): Promise<AnsweredRequest | null> {
  const logged = (await readdir(join(home, 'predictions')).catch(() => [])).filter((name) => ENDPOINT.test(name)).sort();
  for (const name of endpoint === null ? logged : logged.filter((one) => one === endpoint)) {
    const segments = await predictionSegments(home, name, new Date(0).toISOString());
    const rows = await findPredictions(segments, [requestId], { memoryLimitBytes: MEMORY_BYTES });
    const [first] = rows.toSorted((a, b) => a.row - b.row);
    if (first !== undefined) return { requestId, endpoint: name, model: first.model, version: first.version, at: first.at, rows: rows.length };
  }
  return null;
}
