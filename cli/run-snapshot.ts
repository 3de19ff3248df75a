import type { WorkflowHandle } from '@temporalio/client';
import type { RunProgress } from '../contracts/run.ts';
import type { StageHeartbeat } from '../contracts/stages.ts';

/** What a stage that is running says of itself, beyond the run's own table. */
export interface StageSign {
  readonly heartbeat: StageHeartbeat | null;
  /** From 1. */
  readonly attempt: number;
  /** Why the attempt before failed; null for the first. */
  readonly lastFailure: string | null;
  /** Whether a worker has taken it. */
  readonly started: boolean;
}

/** A run at one moment, as the command line shows it. */
export interface RunSnapshot {
  readonly workflowId: string;
  readonly pipeline: string;
  /** Temporal's word for the workflow: RUNNING, COMPLETED, FAILED, CANCELLED, TERMINATED, TIMED_OUT. */
  readonly workflowStatus: string;
  readonly isOpen: boolean;
  /** Null while no worker answers for the run, or when it ended before it began. */
  readonly progress: RunProgress | null;
  /** By stage name. */
  readonly signs: ReadonlyMap<string, StageSign>;
  /** UTC ISO. */
  readonly startedAt: string;
  readonly endedAt: string | null;
}

interface PendingActivity {
  readonly activityId: string;
  readonly sign: StageSign;
}

type Description = Awaited<ReturnType<WorkflowHandle['describe']>>;
type RawPending = NonNullable<NonNullable<Description['raw']['pendingActivities']>[number]>;

/** `PENDING_ACTIVITY_STATE_STARTED` of Temporal's API. */
const STARTED = 2;
const QUERY_TIMEOUT_MS = 4_000;

function readJson(data: Uint8Array | null | undefined): unknown {
  if (!data) return undefined;
  try {
    return JSON.parse(Buffer.from(data).toString('utf8'));
  } catch {
    return undefined; // another encoding than JSON: nothing that a stage of ours writes
  }
}

function readHeartbeat(raw: RawPending): StageHeartbeat | null {
  const value = readJson(raw.heartbeatDetails?.payloads?.[0]?.data);
  if (typeof value !== 'object' || value === null || !('message' in value)) return null;
  const fraction = 'fraction' in value && typeof value.fraction === 'number' ? Math.min(1, Math.max(0, value.fraction)) : null;
  return { fraction, message: String(value.message) };
}

function pendingOf(description: Description): readonly PendingActivity[] {
  return (description.raw.pendingActivities ?? []).map((raw) => ({
    activityId: raw.activityId ?? '',
    sign: { heartbeat: readHeartbeat(raw), attempt: raw.attempt ?? 1, lastFailure: raw.lastFailure?.message ?? null, started: Number(raw.state) === STARTED },
  }));
}

/**
 * Reads a run again and again. A pending activity names no stage; its history event does (the summary), so history is
 * read when an activity is seen for the first time, and not again for it.
 */
export function createSnapshotReader(
  handle: WorkflowHandle,
  withDeadline: <T>(deadlineMs: number, call: () => Promise<T>) => Promise<T>,
): () => Promise<RunSnapshot> {
  const stageOf = new Map<string, string>();

  async function learnStages(pending: readonly PendingActivity[]): Promise<void> {
    if (pending.every(({ activityId }) => stageOf.has(activityId))) return;
    const history = await handle.fetchHistory();
    for (const event of history.events ?? []) {
      const activityId = event.activityTaskScheduledEventAttributes?.activityId;
      const summary = readJson(event.userMetadata?.summary?.data);
      if (activityId && typeof summary === 'string') stageOf.set(activityId, summary);
    }
    for (const { activityId } of pending) if (!stageOf.has(activityId)) stageOf.set(activityId, '');
  }

  return async () => {
    const description = await handle.describe();
    const isOpen = description.status.name === 'RUNNING';
    const progress = await withDeadline(Date.now() + QUERY_TIMEOUT_MS, () => handle.query<RunProgress>('progress')).catch(() => null);
    const pending = isOpen ? pendingOf(description) : [];
    await learnStages(pending);
    return {
      workflowId: description.workflowId,
      pipeline: description.type,
      workflowStatus: description.status.name,
      isOpen,
      progress,
      signs: new Map(pending.map(({ activityId, sign }) => [stageOf.get(activityId) ?? '', sign])),
      startedAt: description.startTime.toISOString(),
      endedAt: description.closeTime?.toISOString() ?? null,
    };
  };
}
