import { setTimeout as sleep } from 'node:timers/promises';
import { type Connection, isGrpcServiceError, type WorkflowService } from '@temporalio/client';
import { msToTs, tsToMs } from '@temporalio/common/lib/time.js';
import type { TestService } from './time-skipping-server.ts';

/**
 * What a worker that was killed had taken is found by time-outs. The test server lets no time be skipped while work is under way, and takes what a dead
 * worker holds for such work: those seconds would pass at real pace.
 *
 * Invariants:
 * 1. Nothing is given back by hand: an attempt of a dead worker ends by the time-out that it has, in the server's time.
 * 2. Time is let go only as long as every one of those attempts still holds its lock: a lock that is given back twice leaves the server's time at
 *    real pace for ever. So it stands again shortly before the first of them is over.
 * 3. What live workers do holds the time as ever.
 */
export interface TestServer {
  readonly connection: Connection;
  readonly time: TestService;
  readonly namespace: string;
}

/** Of one attempt that a worker has taken, in the server's time. */
interface Held {
  readonly endsMs: number;
  /** Until when it may sleep, with its lock given back (simulated-time.ts). */
  readonly asleepMs: number;
}

type History = NonNullable<Awaited<ReturnType<WorkflowService['getWorkflowExecutionHistory']>>['history']>;
type Pending = NonNullable<Awaited<ReturnType<WorkflowService['describeWorkflowExecution']>>['pendingActivities']>[number];

/** A rollout is looked at once a second, a run every two. */
const LONGEST_SLEEP_MS = 2_500;
/** Real time for a call to arrive. */
const MARGIN_MS = 500;
const SHORTEST_MS = 1_000;
/** PENDING_ACTIVITY_STATE_STARTED */
const STARTED = 2;
/** Status of gRPC. */
const NOT_FOUND = 5;

export const workerIdentity = (role: string, pid: number | undefined): string => `simulated:${role}:${String(pid)}`;

/** Lets the time pass until nothing is held by the dead worker any more. */
export async function passTimeOuts(server: TestServer, dead: string): Promise<void> {
  const { time } = server;
  for (;;) {
    const held = await heldBy(server, dead);
    if (held.length === 0) return;
    const awakeMs = Math.max(...held.map(({ asleepMs }) => asleepMs));
    const endsMs = Math.min(...held.map((of) => of.endsMs));
    const nowMs = await serverNowMs(time);
    const restMs = Math.max(awakeMs, endsMs) - nowMs;
    if (awakeMs > nowMs || restMs < SHORTEST_MS + MARGIN_MS) {
      // its own end comes soon; or its sleep ends first
      await sleep(Math.max(50, Math.min(awakeMs > nowMs ? awakeMs - nowMs : restMs, 500)));
      continue;
    }
    await time.lockTimeSkipping({});
    try {
      // looked at once more while time stands: nothing may have ended in between
      const still = await heldBy(server, dead);
      const forMs = Math.min(...still.map((of) => of.endsMs)) - (await serverNowMs(time)) - MARGIN_MS;
      if (still.length === held.length && forMs > 0) {
        // a lock for each of them, and the one that was just taken
        await Promise.all([...still, null].map(() => time.unlockTimeSkippingWithSleep({ duration: msToTs(forMs) })));
      }
    } finally {
      await time.unlockTimeSkipping({});
    }
  }
}

/**
 * A real server gives a workflow to another worker when the one that has it in its memory does not take it for a while. The test server does not, and
 * has no call for it; but to an answer that comes too late it forgets who has the workflow.
 */
export async function forgetMemories(server: TestServer): Promise<void> {
  const { connection, namespace } = server;
  for (const { workflowId, runId } of await openExecutions(server)) {
    // of no event of its history
    const taskToken = Buffer.concat([utf(namespace), utf(workflowId), utf(runId), Buffer.alloc(Int32Array.BYTES_PER_ELEMENT)]);
    await connection.workflowService.respondWorkflowTaskCompleted({ namespace, taskToken }).catch((error: unknown) => {
      const code: number | null = isGrpcServiceError(error) ? error.code : null;
      if (code !== NOT_FOUND) throw error;
    });
  }
}

/** As Java's DataOutputStream writes it. */
function utf(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

async function openExecutions({ connection, namespace }: TestServer): Promise<readonly { readonly workflowId: string; readonly runId: string }[]> {
  const { executions } = await connection.workflowService.listOpenWorkflowExecutions({ namespace, maximumPageSize: 1_000, startTimeFilter: {} });
  return executions.flatMap(({ execution }) =>
    execution?.workflowId && execution.runId ? [{ workflowId: execution.workflowId, runId: execution.runId }] : [],
  );
}

const serverNowMs = async (time: TestService): Promise<number> => tsToMs((await time.getCurrentTime({})).time);

async function heldBy(server: TestServer, dead: string): Promise<readonly Held[]> {
  const {
    connection: { workflowService },
    namespace,
  } = server;
  const executions = await openExecutions(server);
  const held = await Promise.all(
    executions.map(async (execution) => {
      const of = { namespace, execution };
      const [{ history }, { pendingActivities }] = await Promise.all([
        workflowService.getWorkflowExecutionHistory(of),
        workflowService.describeWorkflowExecution(of),
      ]);
      const taken = pendingActivities.filter((activity) => isStarted(activity) && activity.lastWorkerIdentity === dead);
      return [...heldTasks(history ?? {}, dead), ...taken.map((activity) => heldActivity(history ?? {}, activity))];
    }),
  );
  return held.flat();
}

function isStarted(activity: Pending): boolean {
  const state: number | null | undefined = activity.state;
  return state === STARTED;
}

/** The workflow task that it took and has not answered. */
function heldTasks({ events }: Pick<History, 'events'>, dead: string): readonly Held[] {
  const last = events?.findLast(
    (event) =>
      event.workflowTaskStartedEventAttributes ??
      event.workflowTaskCompletedEventAttributes ??
      event.workflowTaskFailedEventAttributes ??
      event.workflowTaskTimedOutEventAttributes,
  );
  if (last?.workflowTaskStartedEventAttributes?.identity !== dead) return [];
  const timeoutMs = tsToMs(events?.[0]?.workflowExecutionStartedEventAttributes?.workflowTaskTimeout);
  return [{ endsMs: tsToMs(last.eventTime) + timeoutMs, asleepMs: 0 }];
}

function heldActivity({ events }: Pick<History, 'events'>, { activityId, lastHeartbeatTime, lastStartedTime }: Pending): Held {
  const scheduled = events?.findLast((event) => event.activityTaskScheduledEventAttributes?.activityId === activityId)?.activityTaskScheduledEventAttributes;
  const toCloseMs = tsToMs(scheduled?.startToCloseTimeout);
  const heartbeatMs = tsToMs(scheduled?.heartbeatTimeout);
  const beatMs = tsToMs(lastHeartbeatTime ?? lastStartedTime);
  const beats = heartbeatMs > 0 && heartbeatMs < toCloseMs;
  return { endsMs: beats ? beatMs + heartbeatMs : tsToMs(lastStartedTime) + toCloseMs, asleepMs: beats ? beatMs + LONGEST_SLEEP_MS : 0 };
}
