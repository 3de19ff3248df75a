import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AnsweredRequest } from '../contracts/lineage.ts';
import { findPredictions } from './find-predictions.ts';
import { predictionSegments } from './prediction-segments.ts';

const MEMORY_BYTES = 256 * 1024 ** 2;
const ENDPOINT = /^[a-zA-Z][a-zA-Z0-9_-]{0,99}$/;

/** Segments of each log (an hour of a server each) that are read first; then four times as many, and so on. */
const FIRST_SEGMENTS = 24;

/**
 * The request of this id out of the prediction logs under the state folder; null where no log has it. Nothing but the logs
 * themselves knows a request: they are read from the newest on until it is found, all of them unless `endpoint` says whose.
 */
export async function findAnsweredRequest(home: string, requestId: string, endpoint: string | null): Promise<AnsweredRequest | null> {
  const logged = (await readdir(join(home, 'predictions')).catch(() => [])).filter((name) => ENDPOINT.test(name)).sort();
  const logs = await Promise.all(
    logged
      .filter((name) => endpoint === null || name === endpoint)
      .map(async (name) => ({ name, segments: (await predictionSegments(home, name, new Date(0).toISOString())).toReversed() })),
  );
  for (let from = 0, count = FIRST_SEGMENTS; logs.some(({ segments }) => segments.length > from); from += count, count *= 4)
    for (const { name, segments } of logs) {
      const rows = await findPredictions(segments.slice(from, from + count), [requestId], { memoryLimitBytes: MEMORY_BYTES });
      const [first] = rows.toSorted((a, b) => a.row - b.row);
      if (first !== undefined) return { requestId, endpoint: name, model: first.model, version: first.version, at: first.at, rows: rows.length };
    }
  return null;
}
