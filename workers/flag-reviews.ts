/** Puts rows that a rule of decision wants reviewed into their label queues. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { shownInputs } from '../activities/shown-inputs.ts';
import { MillraceError } from '../contracts/errors.ts';
import { requirePredictor } from '../contracts/required-predictor.ts';
import type { PredictionRecord } from '../contracts/routes.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import { listSegments } from '../data/prediction-segments.ts';
import { readNewLines } from './log-tail.ts';
import { endpointFolders } from './record-folders.ts';

type Deps = Pick<ActivityDependencies, 'store' | 'config' | 'artifacts' | 'log'>;

/** A queue with so many open rows takes no more: the rows stay in the prediction log. */
const MOST_OPEN = 5_000;
/** A file that was read to its end and not written for so long is not needed any more. */
const READ_FILE_MS = 2 * 3_600_000;

/** Flags what servers wrote since the last time. The same rows again change nothing. @returns how many rows were put into queues */
export async function flagReviews(deps: Deps): Promise<number> {
  const { store, config } = deps;
  let flagged = 0;
  for (const endpoint of await endpointFolders(config.home, 'reviews')) {
    const segments = await listSegments(join(config.home, 'reviews', endpoint));
    const fileOf = (name: string): string => `reviews/${endpoint}/${name}`;
    const offsets = await store.feedback.offsets(segments.map(({ name }) => fileOf(name)));
    for (const { name, lines } of segments) {
      if (lines === undefined) continue;
      const file = fileOf(name);
      let fromByte = offsets.get(file) ?? 0;
      while (fromByte < lines.sizeBytes) {
        const { lines: texts, toByte } = await readNewLines(lines.path, fromByte);
        if (toByte === fromByte) break;
        const records = texts.flatMap((text) => recordOf(text) ?? []);
        for (const queue of new Set(records.map(({ review }) => review ?? '')))
          flagged += await enqueue(
            deps,
            endpoint,
            queue,
            records.filter(({ review }) => review === queue),
          );
        // after they were put there: a death between the two puts them there again, which changes nothing
        if (!(await store.feedback.take({ file, endpoint, fromByte, toByte, values: [] }))) break;
        fromByte = toByte;
      }
      if (fromByte >= lines.sizeBytes && Date.now() - lines.mtimeMs > READ_FILE_MS) await rm(lines.path, { force: true });
    }
  }
  return flagged;
}

function recordOf(line: string): PredictionRecord | undefined {
  try {
    const record = JSON.parse(line) as Partial<PredictionRecord>;
    return typeof record.requestId === 'string' && typeof record.review === 'string' ? (record as PredictionRecord) : undefined;
  } catch {
    // torn by a death while it was written
    return undefined;
  }
}

async function enqueue({ store, artifacts, log }: Deps, endpoint: string, queue: string, records: readonly PredictionRecord[]): Promise<number> {
  const [first] = records;
  if (first === undefined) return 0;
  try {
    const version = await store.models.version(first.model, first.version);
    const { task } = PredictorSchema.parse(await artifacts.getJson(requirePredictor(version))).signature;
    if (!('classes' in task)) return 0;
    const room = MOST_OPEN - ((await store.labels.list()).find(({ name }) => name === queue)?.open ?? 0);
    if (room < records.length)
      log('warn', 'a label queue is full; rows that were flagged are not put into it', { queue, endpoint, rows: records.length - Math.max(0, room) });
    const taken = records.slice(0, Math.max(0, room));
    if (taken.length === 0) return 0;
    await store.labels.openQueue({ name: queue, question: `${task.target}?`, classes: task.classes });
    await store.labels.enqueue(
      queue,
      taken.map(({ requestId, row, inputs, output }) => ({ endpoint, requestId, row, shown: shownInputs(inputs), priority: 1 - Math.max(...output) })),
    );
    return taken.length;
  } catch (error) {
    if (error instanceof MillraceError && error.retryable) throw error;
    // a queue that a run uses for other classes must not keep everything else from being flagged
    log('warn', 'rows that were flagged cannot be put into their label queue', { queue, endpoint, rows: records.length, error: String(error) });
    return 0;
  }
}
