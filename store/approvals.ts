import { and, asc, desc, eq, isNull, lt, sql } from 'drizzle-orm';
import type { AlertSubject, AlertToRaise } from '../contracts/alerts.ts';
import { MillraceError } from '../contracts/errors.ts';
import { mayAct, type Role } from '../contracts/identity.ts';
import { pipelineOf, raiseAlert, resolveAlert } from './alerts.ts';
import { writeAudit } from './audit.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { accessTokens, approvals, type ApprovalStatus, decisions, delegations, rollouts, runs } from './schema.ts';

/**
 * Gates and what people decided at them.
 *
 * Invariants:
 * 1. A gate is asked for once for a run; asking again gives the gate as it is.
 * 2. Of each person one decision stands. One rejection closes the gate; so do as many approvals as are needed.
 * 3. A closed gate stays as it was closed, but for an approval that is taken back while its rollout is watched.
 * 4. A decision that is void (other evidence, taken back) stays in the record, with the reason, and does not count.
 * 5. A lent right is used once: by the lender or by one borrower.
 */
export type DecisionRecord = typeof decisions.$inferSelect;
export type ApprovalRecord = typeof approvals.$inferSelect & { readonly decisions: readonly DecisionRecord[] };
export type DelegationRecord = typeof delegations.$inferSelect;

export interface RequestApprovalInput {
  readonly runId: string;
  readonly gate: string;
  /** UTC ISO; null for a gate that waits for ever. */
  readonly expiresAt: string | null;
  readonly evidence: unknown;
  /** Default 1. */
  readonly approversNeeded?: number;
  /** Who decides has one of these. Default `approver`. */
  readonly roles?: readonly Role[];
  /** Whether who started the run may not decide. Default false. */
  readonly notAuthor?: boolean;
  /** The model that is decided on. */
  readonly model?: string;
}

interface Decider {
  readonly runId: string;
  readonly gate: string;
  readonly who: string;
  /** Of the token. Left out where no token is configured: everyone may decide. */
  readonly roles?: readonly Role[] | undefined;
}

export interface DecideInput extends Decider {
  readonly decision: 'approve' | 'reject';
  readonly reason: string;
}

export interface RevokeInput extends Decider {
  readonly reason: string;
  /** The rollout that is watched; needed once the gate was passed. */
  readonly rollout?: string;
}

type Gate = typeof approvals.$inferSelect;

export function createApprovalsStore({ orm }: Database) {
  const withDecisions = async (tx: Executor, gate: Gate): Promise<ApprovalRecord> => ({
    ...gate,
    decisions: await tx
      .select()
      .from(decisions)
      .where(and(eq(decisions.runId, gate.runId), eq(decisions.gate, gate.gate)))
      .orderBy(asc(decisions.id)),
  });
  const at = (runId: string, gate: string) => and(eq(approvals.runId, runId), eq(approvals.gate, gate));
  const lock = async (tx: Executor, runId: string, gate: string): Promise<Gate> => {
    const [row] = await tx.select().from(approvals).where(at(runId, gate)).for('update');
    if (row === undefined) throw new MillraceError('NOT_FOUND', `Run ${runId} has no gate ${gate} open.`);
    return row;
  };
  const settle = async (tx: Executor, runId: string, gate: string, status: ApprovalStatus): Promise<Gate> => {
    await resolveAlert(tx, { ...alertSubject(runId, gate), ...(await pipelineOf(tx, runId)) }, { tell: false });
    return onlyRow(await tx.update(approvals).set({ status, settledAt: sql`now()` }).where(at(runId, gate)).returning());
  };
  const audit = (tx: Executor, { runId, gate }: Pick<Gate, 'runId' | 'gate'>, action: string, who: string, details: Readonly<Record<string, unknown>>) =>
    writeAudit(tx, { action: `gate.${action}`, subject: `runs/${runId}/gates/${gate}`, who, details });

  /** Whose right it is that is used: null for the person's own. @throws NOT_ALLOWED */
  const rightOf = async (tx: Executor, gate: Gate, { who, roles }: Decider, standing: readonly DecisionRecord[]): Promise<string | null> => {
    const needed = gate.roles.join(' or ');
    if (gate.notAuthor && gate.author === who)
      throw new MillraceError('NOT_ALLOWED', `${who} started the run, and gate ${gate.gate} is not for its author.`, { fix: 'Let someone else decide.' });
    if (roles === undefined || gate.roles.some((role) => mayAct({ roles }, role))) return null;
    const lent = await tx
      .select({ lender: delegations.lender, roles: accessTokens.roles })
      .from(delegations)
      .innerJoin(
        accessTokens,
        and(
          eq(accessTokens.who, delegations.lender),
          isNull(accessTokens.revokedAt),
          sql`(${accessTokens.expiresAt} is null or ${accessTokens.expiresAt} > now())`,
        ),
      )
      .where(and(eq(delegations.borrower, who), isNull(delegations.endedAt), sql`${delegations.until} > now()`));
    const right = lent.find(
      ({ lender, roles: theirs }) =>
        gate.roles.some((role) => mayAct({ roles: theirs }, role)) &&
        !(gate.notAuthor && gate.author === lender) &&
        !standing.some((d) => d.who === lender || (d.onBehalfOf === lender && d.who !== who)),
    );
    if (right === undefined)
      throw new MillraceError('NOT_ALLOWED', `${who} may not decide at gate ${gate.gate}: it needs the role ${needed}.`, {
        fix: `Let someone with that role decide, or lend theirs: millrace approvals delegate ${who}.`,
      });
    return right.lender;
  };

  return {
    async request(input: RequestApprovalInput): Promise<ApprovalRecord> {
      await orm.transaction(async (tx) => {
        const [run] = await tx.select({ trigger: runs.trigger }).from(runs).where(eq(runs.id, input.runId));
        const asked = await tx
          .insert(approvals)
          .values({
            runId: input.runId,
            gate: input.gate,
            expiresAt: input.expiresAt,
            evidence: storable(input.evidence ?? null),
            approversNeeded: input.approversNeeded ?? 1,
            ...(input.roles === undefined ? {} : { roles: [...input.roles] }),
            notAuthor: input.notAuthor ?? false,
            author: run?.trigger.by ?? null,
            model: input.model ?? null,
          })
          .onConflictDoNothing()
          .returning();
        for (const gate of asked) {
          await raiseAlert(tx, { ...waitingAlert(input, gate.requestedAt), ...(await pipelineOf(tx, input.runId)) });
          const { approversNeeded, roles, notAuthor, author, model, expiresAt } = gate;
          await audit(tx, gate, 'request', `run ${input.runId}`, { approversNeeded, roles, notAuthor, author, model, expiresAt });
        }
      });
      return withDecisions(orm, onlyRow(await orm.select().from(approvals).where(at(input.runId, input.gate))));
    },

    /**
     * Records a decision, and closes the gate when it settles it. The same decision again changes nothing.
     * @throws NOT_FOUND for a gate that was not asked for, GATE_EXPIRED past its time, NOT_ALLOWED for who may not decide
     * here, CONFLICT when it is closed or when the person decided otherwise before.
     */
    async decide(input: DecideInput): Promise<ApprovalRecord> {
      const { runId, gate: name, who, decision } = input;
      return orm.transaction(async (tx) => {
        const gate = await lock(tx, runId, name);
        const standing = (await withDecisions(tx, gate)).decisions.filter((d) => d.voidedAt === null);
        const before = standing.find((d) => d.who === who);
        if (before?.decision === decision) return withDecisions(tx, gate);
        if (before !== undefined)
          throw new MillraceError('CONFLICT', `${who} has decided at gate ${name} already: ${before.decision}.`, {
            fix: 'Take it back first (`millrace revoke`), let someone else decide, or start a new run.',
          });
        if (gate.status === 'expired') throw new MillraceError('GATE_EXPIRED', `Gate ${name} has expired.`);
        if (gate.status !== 'pending') throw new MillraceError('CONFLICT', `Gate ${name} is ${gate.status} already.`);
        const late = onlyRow((await tx.execute<{ late: boolean }>(sql`select coalesce(${gate.expiresAt}::timestamptz <= now(), false) as late`)).rows).late;
        if (late) throw new MillraceError('GATE_EXPIRED', `Gate ${name} expired at ${gate.expiresAt ?? 'its time'}.`);
        const onBehalfOf = await rightOf(tx, gate, input, standing);
        await tx.insert(decisions).values({ runId, gate: name, who, decision, reason: storable(input.reason), onBehalfOf });
        const approved = standing.filter((d) => d.decision === 'approve').length + (decision === 'approve' ? 1 : 0);
        const status = decision === 'reject' ? 'rejected' : approved >= gate.approversNeeded ? 'approved' : null;
        const after = await withDecisions(tx, status === null ? gate : await settle(tx, runId, name, status));
        await audit(tx, gate, decision, who, { reason: input.reason, onBehalfOf, model: gate.model, status: after.status });
        return after;
      });
    },

    /**
     * Takes a decision back: one's own while the gate waits; once it was approved the whole approval, while the rollout that
     * it let through is watched. Again it changes nothing.
     * @throws NOT_FOUND, CONFLICT when there is nothing (any more) to take back, NOT_ALLOWED
     */
    async revoke(input: RevokeInput): Promise<ApprovalRecord> {
      const { runId, gate: name, who, reason } = input;
      return orm.transaction(async (tx) => {
        const gate = await lock(tx, runId, name);
        if (gate.status === 'revoked') return withDecisions(tx, gate);
        const voided = { voidedAt: sql`now()`, voidReason: storable(`taken back by ${who}: ${reason}`) };
        if (gate.status === 'pending') {
          const own = await tx
            .update(decisions)
            .set(voided)
            .where(and(eq(decisions.runId, runId), eq(decisions.gate, name), eq(decisions.who, who), isNull(decisions.voidedAt)))
            .returning({ id: decisions.id });
          if (own.length === 0) throw new MillraceError('CONFLICT', `${who} has no decision at gate ${name} that could be taken back.`);
          await audit(tx, gate, 'revoke', who, { reason, status: 'pending' });
          return withDecisions(tx, gate);
        }
        if (gate.status !== 'approved') throw new MillraceError('CONFLICT', `Gate ${name} is ${gate.status}: there is no approval to take back.`);
        await rightOf(tx, gate, input, []);
        const [rollout] = input.rollout === undefined ? [] : await tx.select().from(rollouts).where(eq(rollouts.id, input.rollout));
        if (rollout?.runId !== runId)
          throw new MillraceError('CONFLICT', `What gate ${name} let through is not watched any more: it cannot be revoked.`, {
            fix: 'Go back to the version before: millrace endpoints rollback ENDPOINT --reason TEXT.',
          });
        await tx
          .update(decisions)
          .set(voided)
          .where(and(eq(decisions.runId, runId), eq(decisions.gate, name), isNull(decisions.voidedAt)));
        const after = await withDecisions(
          tx,
          onlyRow(await tx.update(approvals).set({ status: 'revoked', settledAt: sql`now()` }).where(at(runId, name)).returning()),
        );
        await audit(tx, gate, 'revoke', who, { reason, status: 'revoked', model: gate.model, rollout: input.rollout });
        return after;
      });
    },

    /** Lends the right to decide. @throws INVALID_REQUEST */
    async delegate(input: { readonly lender: string; readonly borrower: string; readonly until: string; readonly reason: string }): Promise<DelegationRecord> {
      const problems = [
        ...(Date.parse(input.until) > Date.now() ? [] : [{ path: 'until', message: 'is not after now', found: input.until }]),
        ...(input.lender === input.borrower ? [{ path: 'borrower', message: 'is who lends it', found: input.borrower }] : []),
      ];
      if (problems.length > 0) throw new MillraceError('INVALID_REQUEST', 'The delegation does not fit.', { problems });
      return orm.transaction(async (tx) => {
        const made = onlyRow(await tx.insert(delegations).values(storable(input)).returning());
        await writeAudit(tx, { action: 'delegation.begin', subject: `delegations/${String(made.id)}`, who: input.lender, details: { ...input } });
        return made;
      });
    },

    /** Ends a delegation of `by`'s before its time; again it changes nothing. @throws NOT_FOUND, NOT_ALLOWED */
    async endDelegation({ id, by }: { readonly id: number; readonly by: string }): Promise<DelegationRecord> {
      return orm.transaction(async (tx) => {
        const [now] = await tx.select().from(delegations).where(eq(delegations.id, id)).for('update');
        if (now === undefined) throw new MillraceError('NOT_FOUND', `There is no delegation ${String(id)}.`);
        if (now.lender !== by) throw new MillraceError('NOT_ALLOWED', `The delegation ${String(id)} is ${now.lender}'s.`);
        if (now.endedAt !== null) return now;
        const ended = onlyRow(await tx.update(delegations).set({ endedAt: sql`now()` }).where(eq(delegations.id, id)).returning());
        await writeAudit(tx, { action: 'delegation.end', subject: `delegations/${String(id)}`, who: by });
        return ended;
      });
    },

    /** Those in force, newest first. */
    async delegations(): Promise<readonly DelegationRecord[]> {
      return orm
        .select()
        .from(delegations)
        .where(and(isNull(delegations.endedAt), sql`${delegations.until} > now()`))
        .orderBy(desc(delegations.id))
        .limit(1_000);
    },

    /** Closes a gate that nobody settled; one that is closed stays as it is. @throws NOT_FOUND */
    async expire(runId: string, gate: string): Promise<ApprovalRecord> {
      return orm.transaction(async (tx) => {
        const row = await lock(tx, runId, gate);
        if (row.status !== 'pending') return withDecisions(tx, row);
        const after = await withDecisions(tx, await settle(tx, runId, gate, 'expired'));
        await audit(tx, row, 'expire', `run ${runId}`, {});
        return after;
      });
    },

    /** Closes the gates at which runs that have ended still wait. */
    async closeEnded(): Promise<readonly string[]> {
      return orm.transaction(async (tx) => {
        const { rows } = await tx.execute<{ run_id: string; gate: string; pipeline: string }>(sql`
          update approvals a set status = 'expired', settled_at = now() from runs
          where runs.id = a.run_id and a.status = 'pending' and runs.status not in ('waiting', 'running') returning a.run_id, a.gate, runs.pipeline`);
        for (const { run_id: runId, gate, pipeline } of rows) await resolveAlert(tx, { ...alertSubject(runId, gate), pipeline }, { tell: false });
        for (const { run_id: runId, gate } of rows) await audit(tx, { runId, gate }, 'expire', `run ${runId}`, { because: 'the run has ended' });
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
      input: OfProjects & { readonly runId?: string; readonly status?: ApprovalStatus; readonly limit?: number; readonly before?: string } = {},
    ): Promise<readonly ApprovalRecord[]> {
      const rows = await orm
        .select()
        .from(approvals)
        .where(
          and(
            input.runId === undefined ? undefined : eq(approvals.runId, input.runId),
            input.status === undefined ? undefined : eq(approvals.status, input.status),
            isOfProjects(sql`(select r.pipeline from runs r where r.id = ${approvals.runId})`, input),
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
