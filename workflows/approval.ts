import { CancellationScope, condition, setHandler, workflowInfo } from '@temporalio/workflow';
import { MillraceError } from '../contracts/errors.ts';
import type { Role } from '../contracts/identity.ts';
import type { VersionRef } from '../contracts/references.ts';
import { type Decision, DecisionSchema } from '../contracts/run.ts';
import type { Authorize } from './authorize.ts';
import { type Duration, durationMs } from './duration.ts';
import { toWorkflowFailure } from './failure.ts';
import { approveUpdate, rejectUpdate } from './messages.ts';
import { addStage, asStage, currentRun, type OpenGate, type Run, runActivities, runStage, showProgress } from './run.ts';

export interface ApprovalOptions {
  /** The version that is decided on; when it is approved it becomes its model's champion. */
  readonly version?: VersionRef;
  /** False: nobody is asked, and the version becomes champion at once. Default true. */
  readonly when?: boolean;
  /** How many different people have to approve. Default 1. */
  readonly approvers?: number;
  /** Who decides has one of these roles, where tokens are configured. Default `approver`. */
  readonly roles?: readonly Role[];
  /** Whether who started the run may not decide. Default false. */
  readonly notAuthor?: boolean;
  /** After this time without a decision the run fails with GATE_EXPIRED. Default: never. */
  readonly expiresAfter?: Duration;
}

/**
 * Waits, durably, until people have decided. The run shows what it waits for; `millrace approve RUN GATE --reason …`
 * and the Temporal updates `approve` and `reject` decide. Each decision is a record: who, when, why. What becomes known of
 * the model meanwhile (a newer version, drift) makes earlier votes void.
 *
 * @throws GATE_REJECTED when one person rejects, GATE_EXPIRED when the time is over; both roll the run back.
 */
export async function approval(gate: string, options: ApprovalOptions = {}): Promise<void> {
  const run = currentRun();
  if (options.when ?? true) await waitForPeople(run, gate, options);
  if (options.version) await runStage('approve', `champion-${options.version.model}`, { version: options.version, gate }, { cache: false });
}

async function waitForPeople(run: Run, gate: string, options: ApprovalOptions): Promise<void> {
  const stage = addStage(run, 'approval', `approval-${gate}`, 'people');
  const approversNeeded = options.approvers ?? 1;
  const expiresMs = options.expiresAfter === undefined ? undefined : durationMs(options.expiresAfter);
  await asStage(run, stage, async () => {
    const open: OpenGate = { gate, approversNeeded, expiresAt: expiresMs === undefined ? null : new Date(Date.now() + expiresMs).toISOString(), approvals: [] };
    await runActivities.requestApproval({
      runId: run.runId,
      gate,
      approversNeeded,
      expiresAt: open.expiresAt,
      evidence: { version: options.version ?? null, purpose: run.purpose ?? null },
      ...(options.roles === undefined ? {} : { roles: options.roles }),
      ...(options.notAuthor === undefined ? {} : { notAuthor: options.notAuthor }),
    });
    run.gates.push(open);
    stage.summary = `waits for ${String(approversNeeded)} approval${approversNeeded === 1 ? '' : 's'}`;
    showProgress(run);
    const decided = (): boolean => open.rejection !== undefined || open.approvals.length >= approversNeeded;
    const inTime = await undecided(run, open, () => (expiresMs === undefined ? condition(decided).then(() => true) : condition(decided, expiresMs)));
    const status = !inTime ? 'expired' : open.rejection ? 'rejected' : 'approved';
    await runActivities.closeApproval({ runId: run.runId, gate, status });
    if (status === 'expired') throw new MillraceError('GATE_EXPIRED', `Nobody decided on ${gate} before ${open.expiresAt ?? ''}.`);
    if (open.rejection) throw new MillraceError('GATE_REJECTED', `${open.rejection.by} rejected ${gate}: ${open.rejection.reason}`);
    return { output: undefined, summary: `approved by ${open.approvals.map((a) => a.by).join(', ')}` };
  });
}

/** Waits; however that ends, the run does not wait at the gate any more. When it was cancelled, nobody can decide there. */
async function undecided(run: Run, open: OpenGate, wait: () => Promise<boolean>): Promise<boolean> {
  try {
    return await wait();
  } catch (error) {
    await CancellationScope.nonCancellable(() => runActivities.closeApproval({ runId: run.runId, gate: open.gate, status: 'expired' }));
    throw error;
  } finally {
    run.gates.splice(run.gates.indexOf(open), 1);
  }
}

/** Receives decisions, also such as come before the run waits (they are refused with what it is doing). */
export function handleDecisions(run: () => Run, authorize: Authorize): void {
  const find = (decision: Decision): OpenGate => {
    const parsed = DecisionSchema.safeParse(decision);
    if (!parsed.success) {
      throw new MillraceError('INVALID_REQUEST', 'The decision does not fit.', {
        problems: parsed.error.issues.map((i) => ({ path: i.path.join('.'), message: i.message })),
      });
    }
    const gates = run().gates;
    const open = decision.gate === undefined && gates.length === 1 ? gates[0] : gates.find((g) => g.gate === decision.gate);
    if (!open) {
      const waiting = gates.map((g) => g.gate).join(', ');
      throw new MillraceError(
        'CONFLICT',
        `The run ${workflowInfo().workflowId} does not wait for ${decision.gate ?? 'a single gate'}; it waits for ${waiting || 'nothing'}.`,
        { fix: 'Look at `millrace runs show`.' },
      );
    }
    return open;
  };
  const validator = (decision: Decision): void => {
    try {
      find(decision);
    } catch (error) {
      throw toWorkflowFailure(error);
    }
  };
  const decide = (approved: boolean) => async (decision: Decision) => {
    const { who: by, roles } = await authorize(approved ? 'approve' : 'reject', workflowInfo().workflowType, decision);
    const open = find(decision);
    const at = new Date(Date.now()).toISOString();
    const { reason } = decision;
    // the record first: the gate opens only on a decision that is kept
    const kept = await runActivities.recordDecision({
      runId: run().runId,
      gate: open.gate,
      by,
      reason,
      approved,
      at,
      ...(roles === undefined ? {} : { roles }),
    });
    if (!approved) open.rejection = { by, reason };
    // votes that are void by now do not count
    else if (kept?.approvals) open.approvals.splice(0, open.approvals.length, ...kept.approvals);
    else if (!open.approvals.some((a) => a.by === by)) open.approvals.push({ by, reason, at });
    showProgress(run());
    return { gate: open.gate, approved };
  };
  setHandler(approveUpdate, decide(true), { validator });
  setHandler(rejectUpdate, decide(false), { validator });
}
