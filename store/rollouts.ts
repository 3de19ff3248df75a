import { and, desc, eq, inArray, lt, sql } from 'drizzle-orm';
import type { AlertSubject, AlertToRaise } from '../contracts/alerts.ts';
import { MillraceError } from '../contracts/errors.ts';
import { raiseAlert, resolveAlert } from './alerts.ts';
import { writeAudit } from './audit.ts';
import { type Database, onlyRow, storable } from './database.ts';
import { endpoints, rollouts, type RolloutStatus, type RolloutStep, undos } from './schema.ts';
import { requireAttempt, requireOpenRun } from './stages.ts';

/**
 * Rollouts: bringing a version into service at an endpoint.
 *
 * Invariants:
 * 1. A rollout has one id, given by who asks for it: asking again gives the one that is there.
 * 2. One that has ended stays ended; only a completed one may still be rolled back.
 * 3. A rollout that a run asks for has its undo in the same transaction.
 */
export type RolloutRecord = typeof rollouts.$inferSelect;

export interface CreateRolloutInput {
  /** 32 hex digits; made from run and stage, so that a repeated attempt asks for the same one. */
  readonly id: string;
  readonly endpoint: string;
  readonly model: string;
  readonly version: number;
  readonly strategy: unknown;
  /** The attempt that asks; its undo (kind `route`) is written with the rollout. */
  readonly by?: { readonly runId: string; readonly stage: string; readonly token?: number };
}

/** What an alert of a rollout that waits for a person is of. */
export const holdOf = ({ id, endpoint }: Pick<RolloutRecord, 'id' | 'endpoint'>): AlertSubject => ({ kind: 'rollout', endpoint, subject: `rollout ${id}` });

const ENDED = ['completed', 'rolled_back', 'failed'] as const satisfies readonly RolloutStatus[];
const isEnded = (status: RolloutStatus): boolean => (ENDED as readonly RolloutStatus[]).includes(status);

export function createRolloutsStore({ orm }: Database) {
  const finish = async (id: string, status: (typeof ENDED)[number], reason: string | null, alert?: AlertToRaise): Promise<RolloutRecord> =>
    orm.transaction(async (tx) => {
      const [now] = await tx.select().from(rollouts).where(eq(rollouts.id, id)).for('update');
      if (now === undefined) throw new MillraceError('NOT_FOUND', `There is no rollout ${id}.`);
      if (isEnded(now.status) && now.status === status) return now;
      // A rollout that was completed may be taken back by the undo of its run; nothing else changes after the end.
      if (isEnded(now.status) && !(now.status === 'completed' && status === 'rolled_back'))
        throw new MillraceError('CONFLICT', `Rollout ${id} is ${now.status} already.`);
      await resolveAlert(tx, holdOf(now), { tell: false });
      if (alert !== undefined) await raiseAlert(tx, alert);
      const ended = onlyRow(
        await tx
          .update(rollouts)
          .set({ status, reason: reason === null ? null : storable(reason), endedAt: sql`now()` })
          .where(eq(rollouts.id, id))
          .returning(),
      );
      await writeAudit(tx, {
        action: 'rollout.end',
        subject: `endpoints/${now.endpoint}/rollouts/${id}`,
        who: `endpoint ${now.endpoint}`,
        details: { model: now.model, version: now.version, status, reason },
      });
      return ended;
    });

  return {
    /**
     * Records a rollout as queued, with its undo when a run asks for it; the one that is there when it was asked for before.
     * @throws FENCED when the run has ended or the attempt is not the newest, CONFLICT when the id stands for another rollout.
     */
    async create(input: CreateRolloutInput): Promise<{ readonly rollout: RolloutRecord; readonly created: boolean }> {
      const { by } = input;
      return orm.transaction(async (tx) => {
        if (by !== undefined) await requireOpenRun(tx, by.runId);
        if (by?.token !== undefined) await requireAttempt(tx, by.runId, by.stage, by.token);
        await tx.insert(endpoints).values({ name: input.endpoint }).onConflictDoNothing();
        const made = await tx
          .insert(rollouts)
          .values({
            id: input.id,
            endpoint: input.endpoint,
            model: input.model,
            version: input.version,
            runId: by?.runId ?? null,
            stage: by?.stage ?? null,
            strategy: input.strategy ?? {},
            status: 'queued',
          })
          .onConflictDoNothing({ target: rollouts.id })
          .returning();
        const rollout = made[0] ?? onlyRow(await tx.select().from(rollouts).where(eq(rollouts.id, input.id)));
        if (rollout.endpoint !== input.endpoint || rollout.model !== input.model || rollout.version !== input.version)
          throw new MillraceError('CONFLICT', `Rollout ${input.id} is of ${rollout.model} version ${rollout.version} at ${rollout.endpoint}.`);
        if (by !== undefined)
          await tx
            .insert(undos)
            .values({
              runId: by.runId,
              stage: by.stage,
              kind: 'route',
              key: `${input.endpoint}/${input.id}`,
              payload: { endpoint: input.endpoint, rolloutId: input.id, model: input.model, version: input.version },
            })
            .onConflictDoNothing();
        return { rollout, created: made.length > 0 };
      });
    },

    /** Marks a queued rollout as running, and adds a step to its history; the same step name again is not added twice. @throws CONFLICT after its end. */
    async advance(input: {
      readonly id: string;
      readonly step: RolloutStep;
      readonly epoch?: number;
      /** Written with the step, for the channels of alerts. */
      readonly alert?: AlertToRaise;
    }): Promise<RolloutRecord> {
      return orm.transaction(async (tx) => {
        const [now] = await tx.select().from(rollouts).where(eq(rollouts.id, input.id)).for('update');
        if (now === undefined) throw new MillraceError('NOT_FOUND', `There is no rollout ${input.id}.`);
        const known = now.steps.some((step) => step.name === input.step.name && step.at === input.step.at);
        if (known) return now;
        if (isEnded(now.status)) throw new MillraceError('CONFLICT', `Rollout ${input.id} is ${now.status} already.`);
        // a step further: it does not wait any more, or for something else
        await resolveAlert(tx, holdOf(now), { tell: false });
        if (input.alert !== undefined) await raiseAlert(tx, input.alert);
        return onlyRow(
          await tx
            .update(rollouts)
            .set({
              status: 'running',
              startedAt: sql`coalesce(${rollouts.startedAt}, now())`,
              steps: [...now.steps, storable(input.step)],
              ...(input.epoch === undefined ? {} : { epoch: input.epoch }),
            })
            .where(eq(rollouts.id, input.id))
            .returning(),
        );
      });
    },

    /** Ends a rollout; the same end again changes nothing. Only a completed one can still become rolled back. @throws CONFLICT otherwise. */
    async finish(input: {
      readonly id: string;
      readonly status: 'completed' | 'rolled_back' | 'failed';
      readonly reason?: string;
      readonly alert?: AlertToRaise;
    }): Promise<RolloutRecord> {
      return finish(input.id, input.status, input.reason ?? null, input.alert);
    },

    /** @throws NOT_FOUND */
    async get(id: string): Promise<RolloutRecord> {
      const [row] = await orm.select().from(rollouts).where(eq(rollouts.id, id));
      if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no rollout ${id}.`);
      return row;
    },

    /** Newest first. Default limit 50, at most 1,000; `before` is the `seq` of the last one of the page before. */
    async list(
      input: {
        readonly endpoint?: string;
        readonly runId?: string;
        readonly status?: readonly RolloutStatus[];
        readonly limit?: number;
        readonly before?: number;
      } = {},
    ): Promise<readonly RolloutRecord[]> {
      return orm
        .select()
        .from(rollouts)
        .where(
          and(
            input.endpoint === undefined ? undefined : eq(rollouts.endpoint, input.endpoint),
            input.runId === undefined ? undefined : eq(rollouts.runId, input.runId),
            input.status === undefined ? undefined : inArray(rollouts.status, [...input.status]),
            input.before === undefined ? undefined : lt(rollouts.seq, input.before),
          ),
        )
        .orderBy(desc(rollouts.seq))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },
  };
}
export type RolloutsStore = ReturnType<typeof createRolloutsStore>;
