import { and, asc, desc, eq, lt, sql } from 'drizzle-orm';
import type { AlertSubject, AlertToRaise } from '../contracts/alerts.ts';
import { MillraceError } from '../contracts/errors.ts';
import { pipelineOf, raiseAlert, resolveAlert } from './alerts.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { approvals, type ApprovalStatus, decisions } from './schema.ts';

/**
 * Gates and what people decided at them.
 *
 * Invariants:
 * 1. A gate is asked for once for a run; asking again gives the gate as it is.
 * 2. Each person decides once. One rejection closes the gate; so do as many approvals as are needed.
 * 3. A closed gate stays as it was closed.
 */
export type DecisionRecord = typeof decisions.$inferSelect;
export type ApprovalRecord = typeof approvals.$inferSelect & { readonly decisions: readonly DecisionRecord[] };

export interface RequestApprovalInput {
  readonly runId: string;
  readonly gate: string;
  /** UTC ISO; null for a gate that waits for ever. */
  readonly expiresAt: string | null;
  readonly evidence: unknown;
  /** Default 1. */
  readonly approversNeeded?: number;
}

export interface DecideInput {
  readonly runId: string;
  readonly gate: string;
  readonly who: string;
  readonly decision: 'approve' | 'reject';
  readonly reason: string;
}

export function createApprovalsStore({ orm }: Database) {
  const withDecisions = async (tx: Executor, gate: typeof approvals.$inferSelect): Promise<ApprovalRecord> => ({
    ...gate,
    decisions: await tx
      .select()
      .from(decisions)
      .where(and(eq(decisions.runId, gate.runId), eq(decisions.gate, gate.gate)))
      .orderBy(asc(decisions.at), asc(decisions.who)),
  });
  const at = (runId: string, gate: string) => and(eq(approvals.runId, runId), eq(approvals.gate, gate));
  const lock = async (tx: Executor, runId: string, gate: string): Promise<typeof approvals.$inferSelect> => {
    const [row] = await tx.select().from(approvals).where(at(runId, gate)).for('update');
    if (row === undefined) throw new MillraceError('NOT_FOUND', `Run ${runId} has no gate ${gate} open.`);
    return row;
  };
  const settle = async (tx: Executor, runId: string, gate: string, status: ApprovalStatus): Promise<typeof approvals.$inferSelect> => {
    await resolveAlert(tx, { ...alertSubject(runId, gate), ...(await pipelineOf(tx, runId)) }, { tell: false });
    return onlyRow(await tx.update(approvals).set({ status, settledAt: sql`now()` }).where(at(runId, gate)).returning());
  };

  return {
    async request(input: RequestApprovalInput): Promise<ApprovalRecord> {
      await orm.transaction(async (tx) => {
        const asked = await tx
          .insert(approvals)
          .values({
            runId: input.runId,
            gate: input.gate,
            expiresAt: input.expiresAt,
            evidence: storable(input.evidence ?? null),
            approversNeeded: input.approversNeeded ?? 1,
          })
          .onConflictDoNothing()
          .returning();
        for (const { requestedAt } of asked) await raiseAlert(tx, { ...waitingAlert(input, requestedAt), ...(await pipelineOf(tx, input.runId)) });
      });
      return withDecisions(orm, onlyRow(await orm.select().from(approvals).where(at(input.runId, input.gate))));
    },

    /**
     * Records a decision, and closes the gate when it settles it. The same decision again changes nothing.
     * @throws NOT_FOUND for a gate that was not asked for, GATE_EXPIRED past its time, CONFLICT when it is closed or when
     * the person decided otherwise before.
     */
    async decide(input: DecideInput): Promise<ApprovalRecord> {
      return orm.transaction(async (tx) => {
        const gate = await lock(tx, input.runId, input.gate);
        const [before] = await tx
          .select()
          .from(decisions)
          .where(and(eq(decisions.runId, input.runId), eq(decisions.gate, input.gate), eq(decisions.who, input.who)));
        if (before?.decision === input.decision) return withDecisions(tx, gate);
        if (before !== undefined)
          throw new MillraceError('CONFLICT', `${input.who} has decided at gate ${input.gate} already: ${before.decision}.`, {
            fix: 'A decision stands; let someone else decide, or start a new run.',
          });
        if (gate.status === 'expired') throw new MillraceError('GATE_EXPIRED', `Gate ${input.gate} has expired.`);
        if (gate.status !== 'pending') throw new MillraceError('CONFLICT', `Gate ${input.gate} is ${gate.status} already.`);
        const late = onlyRow((await tx.execute<{ late: boolean }>(sql`select coalesce(${gate.expiresAt}::timestamptz <= now(), false) as late`)).rows).late;
        if (late) throw new MillraceError('GATE_EXPIRED', `Gate ${input.gate} expired at ${gate.expiresAt ?? 'its time'}.`);
        await tx.insert(decisions).values({ ...input, reason: storable(input.reason) });
        const all = await withDecisions(tx, gate);
        const approved = all.decisions.filter((d) => d.decision === 'approve').length;
        if (input.decision === 'reject') return { ...all, ...(await settle(tx, input.runId, input.gate, 'rejected')) };
        if (approved >= gate.approversNeeded) return { ...all, ...(await settle(tx, input.runId, input.gate, 'approved')) };
        return all;
      });
    },

    /** Closes a gate that nobody settled; one that is closed stays as it is. @throws NOT_FOUND */
    async expire(runId: string, gate: string): Promise<ApprovalRecord> {
      return orm.transaction(async (tx) => {
        const row = await lock(tx, runId, gate);
        return withDecisions(tx, row.status === 'pending' ? await settle(tx, runId, gate, 'expired') : row);
      });
    },

    /** Closes the gates at which runs that have ended still wait. */
    async closeEnded(): Promise<readonly string[]> {
      return orm.transaction(async (tx) => {
        const { rows } = await tx.execute<{ run_id: string; gate: string; pipeline: string }>(sql`
          update approvals a set status = 'expired', settled_at = now() from runs
          where runs.id = a.run_id and a.status = 'pending' and runs.status not in ('waiting', 'running') returning a.run_id, a.gate, runs.pipeline`);
        for (const { run_id: runId, gate, pipeline } of rows) await resolveAlert(tx, { ...alertSubject(runId, gate), pipeline }, { tell: false });
        return rows.map(({ run_id: runId, gate }) => `${runId}/${gate}`);
      });
    },

    /** @throws NOT_FOUND */
    async get(runId: string, gate: string): Promise<ApprovalRecord> {
      const [row] = await orm.select().from(approvals).where(at(runId, gate));
      if (row === undefined) throw new MillraceError('NOT_FOUND', `Run ${runId} has no gate ${gate}.`);
      return withDecisions(orm, row);
    },

    /** The last asked for first. `before` is the `requestedAt` of the last one of the page before; default limit 50, at most 1,000. */
    async list(
      input: { readonly runId?: string; readonly status?: ApprovalStatus; readonly limit?: number; readonly before?: string } = {},
    ): Promise<readonly ApprovalRecord[]> {
      const rows = await orm
        .select()
        .from(approvals)
        .where(
          and(
            input.runId === undefined ? undefined : eq(approvals.runId, input.runId),
            input.status === undefined ? undefined : eq(approvals.status, input.status),
            input.before === undefined ? undefined : lt(approvals.requestedAt, input.before),
          ),
        )
        .orderBy(desc(approvals.requestedAt), asc(approvals.runId), asc(approvals.gate))
        .limit(Math.min(input.limit ?? 50, 1_000));
      return Promise.all(rows.map((row) => withDecisions(orm, row)));
    },
  };
}

const alertSubject = (runId: string, gate: string): AlertSubject => ({ kind: 'approval', subject: `run ${runId} gate ${gate}` });

const waitingAlert = ({ runId, gate, expiresAt }: RequestApprovalInput, since: string): AlertToRaise => ({
  ...alertSubject(runId, gate),
  severity: 'info',
  what: `Run ${runId.slice(0, 8)} waits for an approval at the gate ${gate}.`,
  since,
  ...(expiresAt === null ? {} : { until: expiresAt }),
  against: null,
  sure: null,
  look: `/api/v1/runs/${runId}`,
  command: `millrace approve ${runId} ${gate} --reason TEXT`,
  group: `approval/${runId}/${gate}`,
});

export type ApprovalsStore = ReturnType<typeof createApprovalsStore>;
