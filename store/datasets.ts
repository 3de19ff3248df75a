import { and, asc, desc, eq, gte, inArray, isNotNull, isNull, lt, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { type Database, onlyRow } from './database.ts';
import { listLiveRoots, type LiveRoots } from './live-roots.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { datasets, type VersionStatus } from './schema.ts';
import type { DatasetDraft } from './stages.ts';

export type DatasetRecord = typeof datasets.$inferSelect;

/** A dataset in the lineage of another. */
export interface Relative {
  readonly id: string;
  /** Null for one whose record is not there. */
  readonly name: string | null;
  readonly kind: string | null;
  readonly rows: number | null;
  /** Steps away; parents of a parent have 2. */
  readonly distance: number;
  /** The dataset nearer to the one asked for, by which it was found. */
  readonly by: string;
  readonly collectedAt: string | null;
}

export interface Lineage {
  /** What it was made from, up to the raw source; nearest first. */
  readonly ancestors: readonly Relative[];
  /** What was made from it; nearest first. */
  readonly descendants: readonly Relative[];
  /** Model versions that were trained on it or on one of its descendants. */
  readonly versions: readonly { readonly model: string; readonly version: number; readonly status: VersionStatus; readonly dataset: string }[];
}

export interface RetentionState {
  readonly roots: LiveRoots;
  /** Runs that wait or run. */
  readonly openRuns: number;
  /** When the oldest stage under way began; null when none is. */
  readonly oldestWorkMs: number | null;
}

/** Parents this many steps away are not followed further. */
const MOST_STEPS = 100;
const NAME_AT = /^(.+)@(\d+)$/;

export function createDatasetsStore({ orm }: Database) {
  return {
    /** Records a dataset under its manifest's hash; one that is there stays with the run that made it first. */
    async put(draft: DatasetDraft & { readonly runId?: string; readonly stage?: string }): Promise<void> {
      await orm
        .insert(datasets)
        .values({ ...draft, source: draft.source ?? null, runId: draft.runId ?? null, stage: draft.stage ?? null })
        .onConflictDoUpdate({ target: datasets.id, set: { collectedAt: null } });
    },

    /** @throws NOT_FOUND */
    async get(id: string): Promise<DatasetRecord> {
      const [dataset] = await orm.select().from(datasets).where(eq(datasets.id, id));
      if (dataset === undefined) throw new MillraceError('NOT_FOUND', `There is no dataset ${id}.`);
      return dataset;
    },

    /**
     * A dataset by its hash, six or more digits of its beginning, its name (then the newest), or `name@n` (the n-th of that
     * name, from 1). @throws NOT_FOUND; INVALID_REQUEST naming the datasets that a shortened hash fits.
     */
    async find(text: string): Promise<DatasetRecord> {
      if (/^[0-9a-f]{6,64}$/.test(text)) {
        const fitting = await orm
          .select()
          .from(datasets)
          .where(and(gte(datasets.id, text), lt(datasets.id, `${text}g`)))
          .orderBy(desc(datasets.seq))
          .limit(20);
        const [only, another] = fitting;
        if (another !== undefined)
          throw new MillraceError('INVALID_REQUEST', `${text} fits several datasets.`, {
            problems: fitting.map(({ id, name, createdAt }) => ({ path: id, message: `${name}, ${createdAt}` })),
            fix: 'Give more digits.',
          });
        if (only !== undefined) return only;
      }
      const [newest] = await orm.select().from(datasets).where(eq(datasets.name, text)).orderBy(desc(datasets.seq)).limit(1);
      if (newest !== undefined) return newest;
      const [, name, place] = NAME_AT.exec(text) ?? [];
      if (name !== undefined && Number(place) > 0) {
        const [found] = await orm
          .select()
          .from(datasets)
          .where(eq(datasets.name, name))
          .orderBy(asc(datasets.seq))
          .offset(Number(place) - 1)
          .limit(1);
        if (found !== undefined) return found;
      }
      throw new MillraceError('NOT_FOUND', `There is no dataset ${text}.`, {
        fix: 'Give a hash, six or more digits of its beginning, a name, or name@1 for the first of a name; see `millrace datasets list`.',
      });
    },

    /** Newest first. `before` is the `seq` of the last one of the page before; default limit 50, at most 1,000. */
    async list(
      input: OfProjects & { readonly name?: string; readonly kind?: string; readonly owner?: string; readonly limit?: number; readonly before?: number } = {},
    ): Promise<readonly DatasetRecord[]> {
      return orm
        .select()
        .from(datasets)
        .where(
          and(
            isOfProjects(sql`(select r.pipeline from runs r where r.id = ${datasets.runId})`, input),
            input.name === undefined ? undefined : eq(datasets.name, input.name),
            input.kind === undefined ? undefined : eq(datasets.kind, input.kind),
            input.owner === undefined ? undefined : eq(datasets.owner, input.owner),
            input.before === undefined ? undefined : lt(datasets.seq, input.before),
          ),
        )
        .orderBy(desc(datasets.seq))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** Where a dataset comes from and what came of it. */
    async lineage(id: string): Promise<Lineage> {
      const shown = sql`select distinct on (w.id) w.id, w.distance, w.by, d.name, d.kind, d.rows::double precision as rows, d.collected_at as "collectedAt"
        from walk w left join datasets d on d.id = w.id where w.distance > 0 order by w.id, w.distance`;
      const [up, down] = await Promise.all([
        orm.execute<Relative & Record<string, unknown>>(sql`with recursive walk(id, distance, by) as (
          select ${id}::text, 0, ''::text
          union select p.id, w.distance + 1, w.id from walk w join datasets d on d.id = w.id, jsonb_array_elements_text(d.parents) as p(id)
          where w.distance < ${MOST_STEPS}) ${shown}`),
        orm.execute<Relative & Record<string, unknown>>(sql`with recursive walk(id, distance, by) as (
          select ${id}::text, 0, ''::text
          union select d.id, w.distance + 1, w.id from walk w join datasets d on d.parents @> to_jsonb(w.id)
          where w.distance < ${MOST_STEPS}) ${shown}`),
      ]);
      const nearest = (rows: readonly (Relative & Record<string, unknown>)[]): Relative[] =>
        rows
          .map((row) => ({ ...row, collectedAt: row.collectedAt === null ? null : new Date(row.collectedAt).toISOString() }))
          .sort((a, b) => a.distance - b.distance || ((a.name ?? '') < (b.name ?? '') ? -1 : 1));
      const descendants = nearest(down.rows);
      const trained = await orm.execute<Lineage['versions'][number] & Record<string, unknown>>(sql`
        select v.model, v.version, v.status, min(t.id) as dataset
        from versions v join stages s on s.run_id = v.run_id and s.kind = 'train'
        join unnest(array[${sql.join(
          [id, ...descendants.map((d) => d.id)].map((one) => sql`${one}::text`),
          sql`, `,
        )}]) as t(id) on position(t.id in s.input::text) > 0
        group by v.model, v.version, v.status order by v.model, v.version desc`);
      return { ancestors: nearest(up.rows), descendants, versions: trained.rows };
    },

    /** The owner a dataset has itself, or the nearest of those it was made from. */
    async owner(id: string): Promise<string | null> {
      const { rows } = await orm.execute<{ owner: string }>(sql`with recursive walk(id, distance) as (
          select ${id}::text, 0
          union select p.id, w.distance + 1 from walk w join datasets d on d.id = w.id, jsonb_array_elements_text(d.parents) as p(id)
          where w.distance < ${MOST_STEPS} and d.owner is null)
        select d.owner from walk w join datasets d on d.id = w.id where d.owner is not null order by w.distance, d.seq desc limit 1`);
      return rows[0]?.owner ?? null;
    },

    /** Whether retention has taken one of these. */
    async anyCollected(ids: readonly string[]): Promise<boolean> {
      if (ids.length === 0) return false;
      const found = await orm
        .select({ id: datasets.id })
        .from(datasets)
        .where(and(inArray(datasets.id, [...ids]), isNotNull(datasets.collectedAt)))
        .limit(1);
      return found.length > 0;
    },

    /** What retention has to know, as of one moment. */
    async retention(): Promise<RetentionState> {
      return orm.transaction(
        async (tx) => {
          const { rows } = await tx.execute<{ open: number; oldest: number | null }>(sql`select
            (select count(*)::int from runs where status in ('waiting', 'running')) as open,
            (select extract(epoch from min(started_at))::double precision * 1000 from stages where status = 'running') as oldest`);
          const { open, oldest } = onlyRow(rows);
          return { roots: await listLiveRoots(tx), openRuns: open, oldestWorkMs: oldest };
        },
        { isolationLevel: 'repeatable read', accessMode: 'read only' },
      );
    },

    /** Newest first, all of them. */
    async listUncollected(): Promise<readonly DatasetRecord[]> {
      return orm.select().from(datasets).where(isNull(datasets.collectedAt)).orderBy(desc(datasets.seq));
    },

    async collectedIds(): Promise<readonly string[]> {
      const found = await orm.select({ id: datasets.id }).from(datasets).where(isNotNull(datasets.collectedAt));
      return found.map(({ id }) => id);
    },

    /** Takes the mark back. */
    async unmarkCollected(ids: readonly string[]): Promise<void> {
      if (ids.length > 0)
        await orm
          .update(datasets)
          .set({ collectedAt: null })
          .where(inArray(datasets.id, [...ids]));
    },

    /** Marks datasets whose files retention takes away. */
    async markCollected(ids: readonly string[]): Promise<void> {
      for (let at = 0; at < ids.length; at += 1_000)
        await orm
          .update(datasets)
          .set({ collectedAt: sql`now()` })
          .where(and(inArray(datasets.id, ids.slice(at, at + 1_000)), isNull(datasets.collectedAt)));
    },
  };
}
export type DatasetsStore = ReturnType<typeof createDatasetsStore>;
