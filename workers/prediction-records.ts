import type { ActivityDependencies } from '../activities/dependencies.ts';
import { compactLogs } from '../data/compact-log.ts';
import { every } from './every.ts';
import { flagReviews } from './flag-reviews.ts';
import { joinFeedback, takeFeedback } from './join-feedback.ts';
import type { ProcessLog } from './process-log.ts';

type Deps = Pick<ActivityDependencies, 'store' | 'config' | 'artifacts' | 'log'>;

const FEEDBACK_EVERY_MS = 1_000;
const COMPACT_EVERY_MS = 60_000;
const FIGURES_EVERY_MS = 3_600_000;
/** Figures of seconds are kept so long; guards and the last days of a report look at them. */
const SECONDS_KEPT_MS = 7 * 86_400_000;

/** Compacts the logs once, and forgets what is older than it is kept. What was not read yet stays in lines. */
export async function compactRecords(
  { store, config, log }: Deps,
  signal?: AbortSignal,
  times: { readonly settledMs?: number; readonly graceMs?: number } = {},
): Promise<void> {
  const { keepMs } = config.retention.predictions;
  const { made, expired } = await compactLogs({
    home: config.home,
    keepMs,
    ...times,
    ...(signal === undefined ? {} : { signal }),
    log,
    isRead: async (file, sizeBytes) => !file.startsWith('feedback/') || ((await store.feedback.offsets([file])).get(file) ?? 0) >= sizeBytes,
  });
  if (keepMs !== undefined) await store.feedback.forget(new Date(Date.now() - keepMs).toISOString());
  if (made + expired > 0) log('info', 'logs of predictions were compacted', { segments: made, expired });
}

/** Adds figures of what was served up to hours once they are a week old, and forgets what is older than they are kept. */
async function keepFigures({ store, config, log }: Deps): Promise<void> {
  const before = (ageMs: number): string => new Date(Date.now() - ageMs).toISOString();
  await store.stats.forget(before(config.retention.figures.keepMs));
  const fewer = await store.stats.fold(before(SECONDS_KEPT_MS));
  if (fewer > 0) log('info', 'figures of seconds were added up to hours', { rows: fewer });
}

/**
 * Looks after what prediction servers write into the state folder: feedback is joined with its predictions, flagged rows
 * go to their queues, and closed segments become Parquet. It may run in several processes over one folder, and die at
 * any point: each step is idempotent.
 */
export async function keepPredictionRecords(deps: Deps, stopped: AbortSignal, log: ProcessLog): Promise<void> {
  await Promise.all([
    every(FEEDBACK_EVERY_MS, stopped, log, async () => {
      await takeFeedback(deps);
      await joinFeedback(deps);
      await flagReviews(deps);
    }),
    every(COMPACT_EVERY_MS, stopped, log, () => compactRecords(deps, stopped)),
    every(FIGURES_EVERY_MS, stopped, log, () => keepFigures(deps)),
  ]);
}
