import { and, asc, desc, eq, isNotNull, isNull, lt, ne, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { writeAudit } from './audit.ts';
import { type Database, type Executor, onlyRow } from './database.ts';
import { changeEvidence } from './gate-evidence.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { aliases, aliasHistory, models, undos, versionFeatures, versions, type VersionStatus } from './schema.ts';
import { requireAttempt, requireOpenRun } from './stages.ts';

/**
 * Models, their versions and their aliases.
 *
 * Invariants:
 * 1. A version is registered once for a (run, stage, model), however often the attempt is repeated.
 * 2. An alias moves only under its row's lock, its epoch grows with every move, and each move stands in the history.
 * 3. What a run publishes has its undo in the same transaction. Taking back an alias looks at the epoch: a newer move stands.
 * 4. Version numbers of a model count up without being used twice; a rolled back or deleted one keeps its number.
 * 5. What was deleted is not found by any name; its rows stay.
 */
export type ModelRecord = typeof models.$inferSelect;
export type VersionRecord = typeof versions.$inferSelect;
export type AliasRecord = typeof aliases.$inferSelect;
export type AliasMove = typeof aliasHistory.$inferSelect;

export const CANDIDATE_ALIAS = 'candidate';
export const CHAMPION_ALIAS = 'champion';

export interface RegisterVersionInput {
  readonly model: string;
  /** SHA-256 of the predictor. */
  readonly predictor: string;
  readonly metrics: Readonly<Record<string, number>>;
  /** SHA-256 of the evaluation's report; null for a bare file. */
  readonly evaluation: string | null;
  readonly owner?: string;
  readonly description?: string;
  readonly purpose?: unknown;
  readonly tags?: Readonly<Record<string, string>>;
  /** Definitions of feature views that it was trained with. */
  readonly features?: readonly { readonly view: string; readonly definition: string }[];
  /** The attempt that registers. Left out: a person does, from the command line, and nothing undoes it. */
  readonly by?: { readonly runId: string; readonly stage: string; readonly token: number };
}

export interface MoveAliasInput {
  readonly model: string;
  readonly alias: string;
  readonly version: number;
  /** The epoch that the caller saw; 0 for an alias that was never set. Left out: whatever it is now. */
  readonly expectedEpoch?: number;
  /** The run that moves it, which must be open; the move is then undone with it. Left out: a person or an endpoint moves it. */
  readonly runId?: string;
  /** The stage under which the undo is listed; with `token`, the attempt that must be the newest. */
  readonly stage?: string;
  readonly token?: number;
  readonly reason?: string;
}

export interface MovedAlias {
  readonly epoch: number;
  readonly previousVersion: number | null;
}

/** What a model that is made again under a deleted one's name begins with. */
export const REVIVED = {
  deletedAt: null,
  updatedAt: sql`now()`,
  description: sql`case when ${models.deletedAt} is null then ${models.description} else excluded.description end`,
  tags: sql`case when ${models.deletedAt} is null then ${models.tags} else excluded.tags end`,
};

/** The alias's row, locked; made first when it is not there, so that there is always something to lock. */
export async function lockAlias(tx: Executor, model: string, alias: string): Promise<AliasRecord> {
  await tx.insert(aliases).values({ model, alias, version: null, epoch: 0 }).onConflictDoNothing();
  return onlyRow(
    await tx
      .select()
      .from(aliases)
      .where(and(eq(aliases.model, model), eq(aliases.alias, alias)))
      .for('update'),
  );
}

interface AliasWrite {
  readonly model: string;
  readonly alias: string;
  readonly version: number | null;
  readonly epoch: number;
  readonly runId: string | null;
  readonly reason: string | null;
}

export async function writeAlias(tx: Executor, { model, alias, version, epoch, runId, reason }: AliasWrite): Promise<void> {
  await tx
    .update(aliases)
    .set({ version, epoch, movedByRun: runId, movedAt: sql`now()` })
    .where(and(eq(aliases.model, model), eq(aliases.alias, alias)));
  await tx.insert(aliasHistory).values({ model, alias, epoch, version, movedByRun: runId, reason });
  await writeAudit(tx, {
    action: 'alias.move',
    subject: `models/${model}/aliases/${alias}`,
    who: runId === null ? undefined : `run ${runId}`,
    details: { model, version, epoch, reason },
  });
}

export async function moveAlias(tx: Executor, input: MoveAliasInput): Promise<MovedAlias> {
  const now = await lockAlias(tx, input.model, input.alias);
  const mine = now.version === input.version && now.movedByRun === (input.runId ?? null);
  // The same move again, by an attempt that does not know that it succeeded.
  if (mine && now.epoch > 0 && (input.expectedEpoch === undefined || now.epoch === input.expectedEpoch + 1)) {
    const [before] = await tx
      .select({ version: aliasHistory.version })
      .from(aliasHistory)
      .where(and(eq(aliasHistory.model, input.model), eq(aliasHistory.alias, input.alias), lt(aliasHistory.epoch, now.epoch)))
      .orderBy(desc(aliasHistory.epoch))
      .limit(1);
    return { epoch: now.epoch, previousVersion: before?.version ?? null };
  }
  if (input.expectedEpoch !== undefined && input.expectedEpoch !== now.epoch)
    throw new MillraceError('FENCED', `The alias ${input.alias} of ${input.model} was moved by someone else (epoch ${now.epoch}, not ${input.expectedEpoch}).`);
  const epoch = now.epoch + 1;
  await writeAlias(tx, { ...input, epoch, runId: input.runId ?? null, reason: input.reason ?? null });
  if (input.runId !== undefined)
    await tx
      .insert(undos)
      .values({
        runId: input.runId,
        stage: input.stage ?? '',
        kind: 'alias',
        key: `${input.model}/${input.alias}/${epoch}`,
        payload: { model: input.model, alias: input.alias, version: input.version, epoch, previousVersion: now.version },
      })
      .onConflictDoNothing();
  return { epoch, previousVersion: now.version };
}

export async function requireVersion(tx: Executor, model: string, version: number): Promise<VersionRecord> {
  const [row] = await tx
    .select()
    .from(versions)
    .where(and(eq(versions.model, model), eq(versions.version, version), isNull(versions.deletedAt)));
  if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no version ${version} of model ${model}.`);
  return row;
}

/**
 * Takes a move back if nothing newer happened to the alias: to the newest version before it that was not rolled back, or to
 * none. Says what it did.
 */
export async function undoAliasMove(
  tx: Executor,
  move: { readonly model: string; readonly alias: string; readonly epoch: number; readonly runId: string },
): Promise<string> {
  const now = await lockAlias(tx, move.model, move.alias);
  if (now.epoch !== move.epoch) return `${move.alias} was moved again since; the newer move stands`;
  const [before] = await tx
    .select({ version: aliasHistory.version })
    .from(aliasHistory)
    .innerJoin(versions, and(eq(versions.model, aliasHistory.model), eq(versions.version, aliasHistory.version)))
    .where(
      and(
        eq(aliasHistory.model, move.model),
        eq(aliasHistory.alias, move.alias),
        lt(aliasHistory.epoch, move.epoch),
        isNotNull(aliasHistory.version),
        ne(versions.status, 'rolled_back'),
        now.version === null ? undefined : ne(aliasHistory.version, now.version),
      ),
    )
    .orderBy(desc(aliasHistory.epoch))
    .limit(1);
  const version = before?.version ?? null;
  await writeAlias(tx, { model: move.model, alias: move.alias, version, epoch: now.epoch + 1, runId: move.runId, reason: 'undo' });
  return version === null ? `${move.alias} names no version now` : `${move.alias} is version ${version} again`;
}

/** Marks a version as rolled back. Says what it did. */
export async function undoVersion(tx: Executor, at: { readonly model: string; readonly version: number; readonly reason: string }): Promise<string> {
  await tx
    .update(versions)
    .set({ status: 'rolled_back', statusReason: at.reason })
    .where(and(eq(versions.model, at.model), eq(versions.version, at.version)));
  await writeAudit(tx, {
    action: 'version.status',
    subject: `models/${at.model}/versions/${String(at.version)}`,
    details: { model: at.model, version: at.version, status: 'rolled_back', reason: at.reason },
  });
  return `version ${at.version} of ${at.model} is marked as rolled back`;
}

export function createModelsStore({ orm }: Database) {
  return {
    /**
     * Registers a version as candidate and moves the alias `candidate` to it; with its undo when a run does it. Again by the
     * same run and stage: the version that is there. @throws FENCED for an attempt that is not the newest.
     */
    async register(input: RegisterVersionInput): Promise<{ readonly version: number; readonly created: boolean }> {
      const { by } = input;
      return orm.transaction(async (tx) => {
        if (by !== undefined) {
          await requireAttempt(tx, by.runId, by.stage, by.token);
          const [there] = await tx
            .select({ version: versions.version })
            .from(versions)
            .where(and(eq(versions.runId, by.runId), eq(versions.stage, by.stage), eq(versions.model, input.model)));
          if (there !== undefined) return { version: there.version, created: false };
        }
        const { version } = onlyRow(
          await tx
            .insert(models)
            .values({ name: input.model, purpose: input.purpose ?? null, owner: input.owner ?? null, lastVersion: 1 })
            .onConflictDoUpdate({
              target: models.name,
              set: {
                ...REVIVED,
                lastVersion: sql`${models.lastVersion} + 1`,
                purpose: sql`coalesce(excluded.purpose, ${models.purpose})`,
                owner: sql`coalesce(excluded.owner, ${models.owner})`,
              },
            })
            .returning({ version: models.lastVersion }),
        );
        await tx.insert(versions).values({
          model: input.model,
          version,
          predictor: input.predictor,
          runId: by?.runId ?? null,
          stage: by?.stage ?? null,
          status: 'candidate',
          metrics: input.metrics,
          evaluation: input.evaluation,
          owner: input.owner ?? null,
          description: input.description ?? null,
          tags: input.tags ?? {},
        });
        if (input.features !== undefined && input.features.length > 0)
          await tx
            .insert(versionFeatures)
            .values(input.features.map(({ view, definition }) => ({ model: input.model, version, view, definition })))
            .onConflictDoNothing();
        if (by !== undefined)
          await tx.insert(undos).values({
            runId: by.runId,
            stage: by.stage,
            kind: 'version',
            key: `${input.model}/${version}`,
            payload: { model: input.model, version },
          });
        // alias, gates, then the audit log: in this order everywhere, so that two do not wait for each other
        await lockAlias(tx, input.model, CANDIDATE_ALIAS);
        await changeEvidence(tx, {
          model: input.model,
          what: `version ${String(version)} of ${input.model} was registered`,
          ...(by === undefined ? {} : { exceptRun: by.runId }),
        });
        await moveAlias(tx, {
          model: input.model,
          alias: CANDIDATE_ALIAS,
          version,
          reason: 'registered',
          ...(by === undefined ? {} : { runId: by.runId, stage: by.stage }),
        });
        await writeAudit(tx, {
          action: 'version.register',
          subject: `models/${input.model}/versions/${String(version)}`,
          who: by === undefined ? undefined : `run ${by.runId}`,
          details: { model: input.model, version, predictor: input.predictor, evaluation: input.evaluation },
        });
        return { version, created: true };
      });
    },

    /**
     * Points an alias to a version; with its undo when a run does it. The same move again changes nothing.
     * @throws FENCED when the alias is not at `expectedEpoch`, the run has ended or the attempt is not the newest;
     * NOT_FOUND for an unknown version.
     */
    async moveAlias(input: MoveAliasInput): Promise<MovedAlias> {
      return orm.transaction(async (tx) => {
        if (input.runId !== undefined) await requireOpenRun(tx, input.runId);
        if (input.runId !== undefined && input.stage !== undefined && input.token !== undefined)
          await requireAttempt(tx, input.runId, input.stage, input.token);
        await requireVersion(tx, input.model, input.version);
        return moveAlias(tx, input);
      });
    },

    /** @throws NOT_FOUND */
    async setStatus(input: { readonly model: string; readonly version: number; readonly status: VersionStatus; readonly reason?: string }): Promise<void> {
      const changed = await orm.transaction(async (tx) => {
        const rows = await tx
          .update(versions)
          .set({ status: input.status, statusReason: input.reason ?? null, updatedAt: sql`now()` })
          .where(and(eq(versions.model, input.model), eq(versions.version, input.version)))
          .returning({ version: versions.version });
        if (rows.length > 0)
          await writeAudit(tx, {
            action: 'version.status',
            subject: `models/${input.model}/versions/${String(input.version)}`,
            details: { ...input },
          });
        return rows;
      });
      if (changed.length === 0) throw new MillraceError('NOT_FOUND', `There is no version ${input.version} of model ${input.model}.`);
    },

    /** Keeps a version's card (SHA-256); the first one stays. @returns the one that is kept. @throws NOT_FOUND */
    async setCard(input: { readonly model: string; readonly version: number; readonly card: string }): Promise<string> {
      const [row] = await orm
        .update(versions)
        .set({ card: sql`coalesce(${versions.card}, ${input.card})` })
        .where(and(eq(versions.model, input.model), eq(versions.version, input.version)))
        .returning({ card: versions.card });
      if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no version ${input.version} of model ${input.model}.`);
      return row.card ?? input.card;
    },

    /** The version that the alias `champion` names, or null. */
    async champion(model: string): Promise<VersionRecord | null> {
      const [row] = await orm
        .select({ version: versions })
        .from(aliases)
        .innerJoin(versions, and(eq(versions.model, aliases.model), eq(versions.version, aliases.version)))
        .where(and(eq(aliases.model, model), eq(aliases.alias, CHAMPION_ALIAS)));
      return row?.version ?? null;
    },

    /** Where an alias stands, or null when it was never set. `version` is null when it was taken back to nothing. */
    async alias(model: string, alias: string): Promise<AliasRecord | null> {
      const [row] = await orm
        .select()
        .from(aliases)
        .where(and(eq(aliases.model, model), eq(aliases.alias, alias)));
      return row ?? null;
    },

    async aliases(model: string): Promise<readonly AliasRecord[]> {
      return orm.select().from(aliases).where(eq(aliases.model, model)).orderBy(asc(aliases.alias));
    },

    /** Newest first. */
    async aliasHistory(model: string, alias: string): Promise<readonly AliasMove[]> {
      return orm
        .select()
        .from(aliasHistory)
        .where(and(eq(aliasHistory.model, model), eq(aliasHistory.alias, alias)))
        .orderBy(desc(aliasHistory.epoch));
    },

    /** By name. Default limit 50, at most 1,000; `after` is the last name of the page before. */
    async list(input: OfProjects & { readonly limit?: number; readonly after?: string } = {}): Promise<readonly ModelRecord[]> {
      return orm
        .select()
        .from(models)
        .where(
          and(isNull(models.deletedAt), isOfProjects(sql`${models.name}`, input), input.after === undefined ? undefined : sql`${models.name} > ${input.after}`),
        )
        .orderBy(asc(models.name))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    async find(model: string): Promise<ModelRecord | null> {
      const [row] = await orm
        .select()
        .from(models)
        .where(and(eq(models.name, model), isNull(models.deletedAt)));
      return row ?? null;
    },

    /** @throws NOT_FOUND */
    async version(model: string, version: number): Promise<VersionRecord> {
      return requireVersion(orm, model, version);
    },

    /**
     * The version that a number or an alias names; left out: the champion, and where there is none the newest.
     * @throws NOT_FOUND naming what there is
     */
    async versionNamed(model: string, name?: string): Promise<VersionRecord> {
      const [found] = await orm
        .select()
        .from(models)
        .where(and(eq(models.name, model), isNull(models.deletedAt)));
      if (found === undefined) throw new MillraceError('NOT_FOUND', `There is no model ${model}.`, { fix: '`millrace models list` shows the models.' });
      if (name !== undefined && /^[1-9]\d{0,8}$/.test(name)) return requireVersion(orm, model, Number(name));
      const known = await orm.select().from(aliases).where(eq(aliases.model, model)).orderBy(asc(aliases.alias));
      const there = known.find(({ alias, version }) => alias === (name ?? CHAMPION_ALIAS) && version !== null)?.version ?? null;
      if (there === null && name !== undefined)
        throw new MillraceError('NOT_FOUND', `${model} has no version ${name}.`, {
          fix: `Give a number from 1 to ${found.lastVersion}, or an alias: ${known.map(({ alias }) => alias).join(', ') || 'there is none'}.`,
        });
      if (there !== null) return requireVersion(orm, model, there);
      const [newest] = await orm
        .select()
        .from(versions)
        .where(and(eq(versions.model, model), isNull(versions.deletedAt)))
        .orderBy(desc(versions.version))
        .limit(1);
      if (newest === undefined) throw new MillraceError('NOT_FOUND', `${model} has no version yet.`);
      return newest;
    },

    /** Newest first. Default limit 50, at most 1,000; `before` is the last version of the page before. */
    async versions(input: {
      readonly model: string;
      readonly status?: VersionStatus;
      readonly limit?: number;
      readonly before?: number;
    }): Promise<readonly VersionRecord[]> {
      return orm
        .select()
        .from(versions)
        .where(
          and(
            eq(versions.model, input.model),
            isNull(versions.deletedAt),
            input.status === undefined ? undefined : eq(versions.status, input.status),
            input.before === undefined ? undefined : lt(versions.version, input.before),
          ),
        )
        .orderBy(desc(versions.version))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** What a run registered, in the order of registering. */
    async versionsOfRun(runId: string): Promise<readonly VersionRecord[]> {
      return orm
        .select()
        .from(versions)
        .where(and(eq(versions.runId, runId), isNull(versions.deletedAt)))
        .orderBy(asc(versions.createdAt), asc(versions.model), asc(versions.version));
    },
  };
}
export type ModelsStore = ReturnType<typeof createModelsStore>;
