import { and, asc, desc, eq, inArray, sql } from 'drizzle-orm';
import type { OnlineRow } from '../contracts/feature-lookup.ts';
import type { FeatureView } from '../contracts/feature-views.ts';
import { MillraceError } from '../contracts/errors.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { publishedSets } from './published-sets.ts';
import { featureSets, featureViews, undos, versionFeatures } from './schema.ts';
import { requireAttempt, requireOpenRun } from './stages.ts';

/**
 * Feature views and their online values.
 *
 * Invariants:
 * 1. Each definition of a view is a version of its own with values of its own: a model is never served values of another
 *    definition than it was trained with.
 * 2. Values are written under a set that nobody reads; one row's update, under the version's lock, makes it the current
 *    one. A reader sees one set whole, or the one before.
 * 3. A set of an older instant never takes the place of a newer one, except by the undo of the newer.
 * 4. A set that an undo may still go back to keeps its values; all other sets that are not current lose them.
 * 5. Writing, publishing and removing each look at the set's status under its lock: a removed one takes no more rows.
 */
export type FeatureViewRecord = typeof featureViews.$inferSelect;
export type FeatureSetRecord = typeof featureSets.$inferSelect;

export interface DeclaredView {
  readonly view: FeatureView;
  /** SHA-256 of what it computes. */
  readonly definition: string;
}

export interface BeginSetInput {
  readonly view: string;
  readonly version: number;
  /** The dataset that the values come from. */
  readonly snapshot: string;
  /** UTC. */
  readonly asOf: string;
  readonly runId: string;
  readonly stage: string;
  readonly token: number;
}

/** `writing`: go on and write. `same`: these values are served already. `older`: those served are of a later instant. */
export type BegunSet = { readonly state: 'writing'; readonly set: number } | { readonly state: 'same' | 'older'; readonly current: FeatureSetRecord };

/** One entity's online values. */
export interface FeatureValuesRow {
  readonly key: string;
  readonly atMs: number;
  /** JSON. */
  readonly values: string;
}

/** What the online store knows of the entities asked for. */
export interface FoundValues {
  /** False: no values of this definition are there at all. */
  readonly materialized: boolean;
  /** By key; unknown entities are not in it. */
  readonly rows: ReadonlyMap<string, OnlineRow>;
}

/** A version of a view as the catalogue shows it. */
export interface ListedView {
  readonly name: string;
  readonly version: number;
  readonly definition: string;
  readonly owner: string | null;
  readonly view: FeatureView;
  readonly createdAt: string;
  /** What is served; null when nothing is. */
  readonly online: Pick<FeatureSetRecord, 'id' | 'snapshot' | 'asOf' | 'entities' | 'runId' | 'stage' | 'publishedAt'> | null;
  /** Model versions that were trained with this definition. */
  readonly models: readonly { readonly model: string; readonly version: number }[];
}

/** With how far its values are behind; null when it has none. */
export type FreshView = ListedView & { readonly freshnessSeconds: number | null };
export const withFreshness = (view: ListedView, nowMs: number): FreshView => ({
  ...view,
  freshnessSeconds: view.online === null ? null : Math.max(0, Math.floor((nowMs - Date.parse(view.online.asOf)) / 1_000)),
});

const sets = publishedSets({
  sets: 'feature_sets',
  places: 'feature_views',
  rows: 'feature_values',
  place: [
    ['view', 'name'],
    ['version', 'version'],
  ],
  undo: 'features',
});

async function lockView(tx: Executor, view: string, version: number): Promise<FeatureViewRecord> {
  const [row] = await tx
    .select()
    .from(featureViews)
    .where(and(eq(featureViews.name, view), eq(featureViews.version, version)))
    .for('update');
  if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no version ${version} of the feature view ${view}.`);
  return row;
}

async function setOf(tx: Executor, id: number): Promise<FeatureSetRecord> {
  return onlyRow(await tx.select().from(featureSets).where(eq(featureSets.id, id)));
}

async function point(tx: Executor, { name, version, epoch }: FeatureViewRecord, current: number | null): Promise<number> {
  await tx
    .update(featureViews)
    .set({ current, epoch: epoch + 1 })
    .where(and(eq(featureViews.name, name), eq(featureViews.version, version)));
  return epoch + 1;
}

/** Takes a publication back: the values before it are served again, unless newer ones have taken its place since. Says what it did. */
export async function undoFeatureSet(tx: Executor, undone: { readonly view: string; readonly version: number; readonly set: number }): Promise<string> {
  const now = await lockView(tx, undone.view, undone.version);
  const before = await sets.takeBack(tx, undone.set);
  if (now.current !== undone.set) return `${undone.view} has newer values since; they stay`;
  await point(tx, now, before);
  return before === null ? `${undone.view} has no online values now` : `${undone.view} has its values as of ${(await setOf(tx, before)).asOf} again`;
}

const newestFirst = [asc(featureViews.name), desc(featureViews.version)] as const;

export function createFeatureViewsStore({ orm, pool }: Database) {
  const declare = (input: DeclaredView): Promise<number> =>
    orm.transaction(async (tx) => {
      const { name } = input.view;
      // One at a time for a name: numbers are given once.
      await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`feature view ${name}`}, 0))`);
      const [there] = await tx
        .select()
        .from(featureViews)
        .where(and(eq(featureViews.name, name), eq(featureViews.definition, input.definition)));
      if (there !== undefined) {
        // Owner and description are not part of what it computes; the last word on them counts.
        await tx
          .update(featureViews)
          .set({ view: storable(input.view) })
          .where(and(eq(featureViews.name, name), eq(featureViews.version, there.version)));
        return there.version;
      }
      const [last] = await tx
        .select({ version: featureViews.version })
        .from(featureViews)
        .where(eq(featureViews.name, name))
        .orderBy(desc(featureViews.version))
        .limit(1);
      const version = (last?.version ?? 0) + 1;
      await tx.insert(featureViews).values({ name, version, definition: input.definition, view: storable(input.view) });
      return version;
    });

  const listed = async (found: readonly FeatureViewRecord[]): Promise<readonly ListedView[]> => {
    if (found.length === 0) return [];
    const current = found.flatMap((row) => row.current ?? []);
    const served = current.length === 0 ? [] : await orm.select().from(featureSets).where(inArray(featureSets.id, current));
    const users = await orm
      .select()
      .from(versionFeatures)
      .where(
        inArray(
          versionFeatures.view,
          found.map(({ name }) => name),
        ),
      )
      .orderBy(asc(versionFeatures.model), asc(versionFeatures.version));
    return found.map(({ name, version, definition, view, current: id, createdAt }) => {
      const set = served.find((candidate) => candidate.id === id);
      return {
        name,
        version,
        definition,
        owner: view.owner ?? null,
        view,
        createdAt,
        online:
          set === undefined
            ? null
            : {
                id: set.id,
                snapshot: set.snapshot,
                asOf: set.asOf,
                entities: set.entities,
                runId: set.runId,
                stage: set.stage,
                publishedAt: set.publishedAt,
              },
        models: users.filter((user) => user.view === name && user.definition === definition).map((user) => ({ model: user.model, version: user.version })),
      };
    });
  };

  return {
    /** Records a definition, and gives its version: the one that is there, or the next number. */
    declare,

    /**
     * Opens a set of values for an attempt; what an earlier attempt of the same stage left unfinished is given up.
     * @throws FENCED when the run has ended or the attempt is not the newest
     */
    async begin(input: BeginSetInput): Promise<BegunSet> {
      return orm.transaction(async (tx): Promise<BegunSet> => {
        await requireOpenRun(tx, input.runId);
        await requireAttempt(tx, input.runId, input.stage, input.token);
        const view = await lockView(tx, input.view, input.version);
        await sets.giveUp(tx, input);
        if (view.current !== null) {
          const current = await setOf(tx, view.current);
          const later = Date.parse(current.asOf) - Date.parse(input.asOf);
          if (later > 0) return { state: 'older', current };
          if (later === 0 && current.snapshot === input.snapshot) return { state: 'same', current };
        }
        const { view: name, version, snapshot, asOf, runId, stage } = input;
        const { id } = onlyRow(await tx.insert(featureSets).values({ view: name, version, snapshot, asOf, runId, stage }).returning({ id: featureSets.id }));
        return { state: 'writing', set: id };
      });
    },

    /** Adds values to a set that is being written. @throws FENCED for one that is not any more */
    async write(set: number, rows: readonly FeatureValuesRow[]): Promise<void> {
      await orm.transaction(async (tx) => {
        const [open] = await tx.select({ status: featureSets.status }).from(featureSets).where(eq(featureSets.id, set)).for('share');
        if (open?.status !== 'writing') throw new MillraceError('FENCED', 'A newer attempt has taken over; these values are not written.');
        await tx.execute(sql`
          insert into feature_values ("set", key, at_ms, "values")
          select ${set}, * from unnest(${sql.param(rows.map(({ key }) => key))}::text[], ${sql.param(rows.map(({ atMs }) => atMs))}::bigint[], ${sql.param(rows.map(({ values }) => values))}::text[])`);
      });
    },

    /**
     * Makes a set the one that is served, with its undo in the same transaction. Again: nothing happens. `older` when
     * values of a later instant have been published meanwhile.
     * @throws FENCED when the run has ended, the attempt is not the newest, or the set was given up
     */
    async publish(input: {
      readonly set: number;
      readonly entities: number;
      readonly runId: string;
      readonly stage: string;
      readonly token: number;
    }): Promise<{ readonly state: 'published' | 'older'; readonly current: FeatureSetRecord }> {
      return orm.transaction(async (tx) => {
        await requireOpenRun(tx, input.runId);
        await requireAttempt(tx, input.runId, input.stage, input.token);
        const { view: name, version } = await setOf(tx, input.set);
        const view = await lockView(tx, name, version);
        const set = await setOf(tx, input.set);
        if (view.current === set.id) return { state: 'published', current: set };
        if (set.status !== 'writing') throw new MillraceError('FENCED', 'A newer attempt has taken over; these values are not published.');
        const before = view.current === null ? null : await setOf(tx, view.current);
        if (before !== null && Date.parse(before.asOf) > Date.parse(set.asOf)) {
          await tx.update(featureSets).set({ status: 'undone' }).where(eq(featureSets.id, set.id));
          return { state: 'older', current: before };
        }
        const epoch = await point(tx, view, set.id);
        await tx.update(featureSets).set({ status: 'published', epoch, entities: input.entities, publishedAt: sql`now()` }).where(eq(featureSets.id, set.id));
        await tx
          .insert(undos)
          .values({
            runId: input.runId,
            stage: input.stage,
            kind: 'features',
            key: `${name}/${version}/${set.id}`,
            payload: { view: name, version, set: set.id, before: view.current },
          })
          .onConflictDoNothing();
        return { state: 'published', current: await setOf(tx, set.id) };
      });
    },

    /** Removes values that nobody reads and no undo can bring back: of unfinished, undone and superseded sets. Answers with how many sets. */
    async sweep(view?: string): Promise<number> {
      const condemned = await sets.condemn(orm, { mark: 'removed', ...(view === undefined ? {} : { where: sql`s.view = ${view}` }) });
      // Those that an earlier sweep marked and did not get to the end of are there as well.
      const { rows } = await orm.execute<{ id: string }>(
        sql`select id from feature_sets s where status = 'removed' and exists (select from feature_values v where v."set" = s.id)`,
      );
      for (const { id } of rows) await sets.removeRows(orm, Number(id));
      return condemned.length;
    },

    /** Values of these entities, all of one set. */
    async lookup(view: string, definition: string, keys: readonly string[]): Promise<FoundValues> {
      const { rows } = await pool.query<{ current: string | null; key: string | null; at_ms: string; values: string }>({
        name: 'lookup_features',
        text: `select w.current, v.key, v.at_ms, v."values" from feature_views w
               left join feature_values v on v."set" = w.current and v.key = any($3::text[])
               where w.name = $1 and w.definition = $2`,
        values: [view, definition, keys],
      });
      return {
        materialized: rows.some(({ current }) => current !== null),
        rows: new Map(
          rows.flatMap(({ key, at_ms, values }) =>
            key === null ? [] : [[key, { atMs: Number(at_ms), values: JSON.parse(values) as OnlineRow['values'] }] as const],
          ),
        ),
      };
    },

    /** The newest version of each view, by name. Default limit 50, at most 1,000; `after` is the last name of the page before. */
    async list(input: { readonly limit?: number; readonly after?: string } = {}): Promise<readonly ListedView[]> {
      const newest = await orm
        .selectDistinctOn([featureViews.name])
        .from(featureViews)
        .where(input.after === undefined ? undefined : sql`${featureViews.name} > ${input.after}`)
        .orderBy(...newestFirst)
        .limit(Math.min(input.limit ?? 50, 1_000));
      return listed(newest);
    },

    /** All versions of a view, the newest first. @throws NOT_FOUND */
    async versions(name: string): Promise<readonly ListedView[]> {
      const found = await orm
        .select()
        .from(featureViews)
        .where(eq(featureViews.name, name))
        .orderBy(...newestFirst);
      if (found.length === 0) throw new MillraceError('NOT_FOUND', `There is no feature view ${name}.`);
      return listed(found);
    },
  };
}
export type FeatureViewsStore = ReturnType<typeof createFeatureViewsStore>;
