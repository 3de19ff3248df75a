import type { ErrorCode } from '../contracts/errors.ts';
import type { RetrainingOutcome } from '../contracts/retraining.ts';
import type { ApprovalRecord } from '../store/approvals.ts';
import type { RolloutRecord } from '../store/rollouts.ts';
import type { RunRecord } from '../store/runs.ts';

/** Ends of a run in which people, rules or guards refused what it brought: nothing broke. */
const REFUSALS: ReadonlySet<string> = new Set<ErrorCode>(['GATE_REJECTED', 'GATE_EXPIRED', 'ACCEPTANCE_FAILED', 'ROLLED_BACK']);

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * How a retraining ended, by the records of its run: what it brought into service, and how the time from its first stage to
 * then was spent. Gates and rollouts that overlap count once, as rollout.
 */
export function outcomeOf(
  run: RunRecord,
  approvals: readonly Pick<ApprovalRecord, 'requestedAt' | 'settledAt'>[],
  rollouts: readonly Pick<RolloutRecord, 'status' | 'createdAt' | 'endedAt' | 'model' | 'version' | 'endpoint'>[],
): RetrainingOutcome {
  const beganMs = Date.parse(run.startedAt ?? run.createdAt);
  const runEndMs = Math.max(beganMs, Date.parse(run.endedAt ?? run.startedAt ?? run.createdAt));
  const served = run.status === 'completed' ? rollouts.filter(({ status }) => status === 'completed') : [];
  const last = served.reduce<(typeof served)[number] | null>(
    (latest, rollout) => (latest === null || (rollout.endedAt ?? '') > (latest.endedAt ?? '') ? rollout : latest),
    null,
  );
  const endedMs = last?.endedAt == null ? runEndMs : Math.min(runEndMs, Math.max(beganMs, Date.parse(last.endedAt)));
  const within = (from: string, to: string | null): Span => ({
    fromMs: Math.max(beganMs, Date.parse(from)),
    toMs: Math.min(endedMs, to === null ? endedMs : Date.parse(to)),
  });
  const inRollout = rollouts.map(({ createdAt, endedAt }) => within(createdAt, endedAt));
  const atGates = approvals.map(({ requestedAt, settledAt }) => within(requestedAt, settledAt));
  const rolloutMs = lengthOf(inRollout);
  const times = { runId: run.id, beganMs, endedMs, rolloutMs, gatesMs: lengthOf([...inRollout, ...atGates]) - rolloutMs };
  if (last !== null) return { ...times, fate: 'serving', because: `${last.model} ${String(last.version)} serves at ${last.endpoint}` };
  if (run.status === 'completed') return { ...times, fate: 'completed', because: 'its run completed, and brought nothing into service' };
  if (run.status === 'cancelled' || run.status === 'terminated') return { ...times, fate: 'cancelled', because: `its run was ${run.status}` };
  const { error } = run;
  return {
    ...times,
    fate: error !== null && REFUSALS.has(error.code) ? 'rejected' : 'failed',
    because: error === null ? 'its run failed' : `${error.code}: ${error.message}`.slice(0, 500),
  };
}

/** Of the union of the spans, milliseconds. */
function lengthOf(spans: readonly Span[]): number {
  let total = 0;
  let reached = -Infinity;
  for (const { fromMs, toMs } of [...spans].sort((a, b) => a.fromMs - b.fromMs)) {
    total += Math.max(0, toMs - Math.max(fromMs, reached));
    reached = Math.max(reached, toMs);
  }
  return total;
}
