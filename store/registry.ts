import { and, asc, desc, eq, inArray, isNull, ne, type SQL, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { writeAudit } from './audit.ts';
import { type Database, type Executor, onlyRow } from './database.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { lockAlias, type ModelRecord, moveAlias, requireVersion, REVIVED, type VersionRecord, writeAlias } from './models.ts';
import { aliases, aliasHistory, experiments, loggedModels, models, type ModelStage, rollouts, routes, runs, versions } from './schema.ts';

/**
 * The registry as MLflow's clients see it: the same models, versions and aliases that runs register, move and serve.
 *
 * Invariants:
 * 1. A version that an endpoint serves, or that is on its way there, is not deleted; a model that was ever rolled out is not
 *    renamed: records, routes and predictions name it.
 * 2. What is deleted gives its aliases up in the same transaction, each with its next epoch.
 * 3. A tag's value and a description are replaced whole; the last writer's stands.
 */
export interface RegisteredModel extends ModelRecord {
  readonly aliases: readonly { readonly alias: string; readonly version: number }[];
  /** The newest version of each stage. */
  readonly latest: readonly RegisteredVersion[];
}
export interface RegisteredVersion extends VersionRecord {
  readonly aliases: readonly string[];
}

type Comparator = '=' | '!=' | '<' | '<=' | '>' | '>=' | 'LIKE' | 'ILIKE' | 'IN' | 'NOT IN';
export type RegistryAttribute = 'name' | 'version' | 'runId' | 'source' | 'createdAt' | 'updatedAt';
/** One condition; all of a search's have to hold. A tag that is not there fits none. */
export interface RegistryCondition {
  readonly of: { readonly attribute: RegistryAttribute } | { readonly tag: string };
  readonly comparator: Comparator;
  /** A list for IN and NOT IN only. */
  readonly value: string | number | readonly string[];
}
export interface RegistryOrder {
  readonly by: RegistryAttribute;
  readonly descending: boolean;
}
export interface RegistrySearch extends OfProjects {
  readonly conditions: readonly RegistryCondition[];
  readonly order: readonly RegistryOrder[];
  readonly limit: number;
  readonly offset: number;
}

export interface CreateModelInput {
  readonly name: string;
  readonly description?: string;
  readonly tags: Readonly<Record<string, string>>;
}
export interface CreateVersionInput {
  readonly model: string;
  readonly source: string;
  /** Below the artifacts' root; null where the source lies elsewhere. */
  readonly folder: string | null;
  readonly runId?: string;
  readonly runLink?: string;
  readonly loggedModel?: string;
  readonly description?: string;
  readonly tags: Readonly<Record<string, string>>;
}

const MODEL_COLUMNS: Partial<Record<RegistryAttribute, SQL>> = {
  name: sql`${models.name}`,
  createdAt: sql`${models.createdAt}`,
  updatedAt: sql`${models.updatedAt}`,
};
const VERSION_COLUMNS: Record<RegistryAttribute, SQL> = {
  name: sql`${versions.model}`,
  version: sql`${versions.version}`,
  runId: sql`${versions.runId}`,
  source: sql`${versions.source}`,
  createdAt: sql`${versions.createdAt}`,
  updatedAt: sql`${versions.updatedAt}`,
};

const noModel = (name: string): MillraceError => new MillraceError('NOT_FOUND', `Registered Model with name=${name} not found.`);

/** The condition in SQL: names come from a table, values are parameters. */
function compare(left: SQL, { comparator, value }: RegistryCondition): SQL {
  if (typeof value === 'object') {
    const list = sql.join(
      value.map((one) => sql`${one}`),
      sql`, `,
    );
    if (value.length === 0) return comparator === 'IN' ? sql`false` : sql`true`;
    return comparator === 'IN' ? sql`${left} in (${list})` : sql`${left} not in (${list})`;
  }
  return sql`${left} ${sql.raw(comparator === '!=' ? '<>' : comparator)} ${value}`;
}

function columnOf(columns: Partial<Record<RegistryAttribute, SQL>>, attribute: RegistryAttribute): SQL {
  const column = columns[attribute];
  if (column === undefined) throw new MillraceError('INVALID_REQUEST', `Models are not searched by ${attribute}.`);
  return column;
}

function whereOf(conditions: readonly RegistryCondition[], columns: Partial<Record<RegistryAttribute, SQL>>, tags: SQL): SQL[] {
  return conditions.map((condition) =>
    compare('tag' in condition.of ? sql`(${tags} ->> ${condition.of.tag}::text)` : columnOf(columns, condition.of.attribute), condition),
  );
}

const orderOf = (order: readonly RegistryOrder[], columns: Partial<Record<RegistryAttribute, SQL>>): SQL[] =>
  order.map(({ by, descending }) => (descending ? desc(columnOf(columns, by)) : asc(columnOf(columns, by))));

async function requireModel(tx: Executor, name: string): Promise<ModelRecord> {
  const [row] = await tx
    .select()
    .from(models)
    .where(and(eq(models.name, name), isNull(models.deletedAt)));
  if (row === undefined) throw noModel(name);
  return row;
}

async function aliasesOf(
  tx: Executor,
  names: readonly string[],
): Promise<readonly { readonly model: string; readonly alias: string; readonly version: number }[]> {
  if (names.length === 0) return [];
  const rows = await tx
    .select({ model: aliases.model, alias: aliases.alias, version: aliases.version })
    .from(aliases)
    .where(inArray(aliases.model, [...names]))
    .orderBy(asc(aliases.alias));
  return rows.flatMap(({ version, ...row }) => (version === null ? [] : [{ ...row, version }]));
}

async function withAliases(tx: Executor, rows: readonly VersionRecord[]): Promise<readonly RegisteredVersion[]> {
  const named = await aliasesOf(tx, [...new Set(rows.map(({ model }) => model))]);
  return rows.map((row) => ({ ...row, aliases: named.filter((a) => a.model === row.model && a.version === row.version).map(({ alias }) => alias) }));
}

async function latestOf(tx: Executor, names: readonly string[]): Promise<readonly VersionRecord[]> {
  if (names.length === 0) return [];
  const there = and(inArray(versions.model, [...names]), isNull(versions.deletedAt));
  return tx
    .select()
    .from(versions)
    .where(
      and(
        there,
        sql`(${versions.model}, ${versions.modelStage}, ${versions.version}) in (
          select v.model, v.model_stage, max(v.version) from versions v where ${inArray(sql`v.model`, [...names])} and v.deleted_at is null group by 1, 2)`,
      ),
    )
    .orderBy(asc(versions.model), asc(versions.version));
}

async function described(tx: Executor, rows: readonly ModelRecord[]): Promise<readonly RegisteredModel[]> {
  const names = rows.map(({ name }) => name);
  const [named, latest] = [await aliasesOf(tx, names), await withAliases(tx, await latestOf(tx, names))];
  return rows.map((row) => ({
    ...row,
    aliases: named.filter(({ model }) => model === row.name).map(({ alias, version }) => ({ alias, version })),
    latest: latest.filter(({ model }) => model === row.name),
  }));
}

/** @throws MODEL_IN_USE for a version that a route names or a rollout under way brings there. */
async function refuseServed(tx: Executor, model: string, version?: number): Promise<void> {
  const names = (part: SQL): SQL =>
    version === undefined ? sql`${part} ->> 'model' = ${model}` : sql`${part} ->> 'model' = ${model} and (${part} ->> 'version')::int = ${version}`;
  const [route] = await tx
    .select({ endpoint: routes.endpoint })
    .from(routes)
    .where(
      sql`(${names(sql`champion`)}) or (${names(sql`(challenger -> 'version')`)})
        or exists (select from jsonb_array_elements(standby) as loaded where ${names(sql`loaded`)})`,
    )
    .limit(1);
  const [rollout] = await tx
    .select({ endpoint: rollouts.endpoint })
    .from(rollouts)
    .where(and(eq(rollouts.model, model), version === undefined ? undefined : eq(rollouts.version, version), inArray(rollouts.status, ['queued', 'running'])))
    .limit(1);
  const endpoint = route?.endpoint ?? rollout?.endpoint;
  if (endpoint === undefined) return;
  const what = version === undefined ? `The model ${model}` : `Version ${version} of ${model}`;
  throw new MillraceError('MODEL_IN_USE', `${what} is served by the endpoint ${endpoint}${route === undefined ? ', or will be' : ''}: it is not deleted.`);
}

async function giveUpAliases(tx: Executor, model: string, version?: number): Promise<void> {
  for (const { alias, version: at } of await aliasesOf(tx, [model])) {
    if (version !== undefined && at !== version) continue;
    const now = await lockAlias(tx, model, alias);
    await writeAlias(tx, { model, alias, version: null, epoch: now.epoch + 1, runId: null, reason: 'deleted' });
  }
}

/** What changes a model or, where one is named, a version. */
const audit = (
  tx: Executor,
  action: string,
  details: Readonly<Record<string, unknown>> & { readonly model: string; readonly version?: number },
): Promise<void> =>
  writeAudit(tx, {
    action,
    subject: details.version === undefined ? `models/${details.model}` : `models/${details.model}/versions/${String(details.version)}`,
    details,
  });

export function createRegistryStore({ orm }: Database) {
  const oneVersion = async (tx: Executor, row: VersionRecord): Promise<RegisteredVersion> => onlyRow(await withAliases(tx, [row]));
  const changeVersion = async (
    model: string,
    version: number,
    set: Partial<typeof versions.$inferInsert> | { readonly tags: SQL },
  ): Promise<RegisteredVersion> =>
    orm.transaction(async (tx) => {
      await requireVersion(tx, model, version);
      const row = onlyRow(
        await tx
          .update(versions)
          .set({ ...set, updatedAt: sql`now()` })
          .where(and(eq(versions.model, model), eq(versions.version, version)))
          .returning(),
      );
      const { description, tags, modelStage } = row;
      const described = await oneVersion(tx, row);
      await audit(tx, 'version.change', { model, version, description, tags, modelStage });
      return described;
    });
  const changeModel = async (name: string, set: Partial<typeof models.$inferInsert> | { readonly tags: SQL }): Promise<RegisteredModel> =>
    orm.transaction(async (tx) => {
      const [row] = await tx
        .update(models)
        .set({ ...set, updatedAt: sql`now()` })
        .where(and(eq(models.name, name), isNull(models.deletedAt)))
        .returning();
      if (row === undefined) throw noModel(name);
      const changed = onlyRow(await described(tx, [row]));
      await audit(tx, 'model.change', { model: name, description: row.description, tags: row.tags });
      return changed;
    });

  return {
    /** @throws CONFLICT when there is one of that name. */
    async createModel({ name, description, tags }: CreateModelInput): Promise<RegisteredModel> {
      return orm.transaction(async (tx) => {
        const [row] = await tx
          .insert(models)
          .values({ name, description: description ?? null, tags })
          .onConflictDoUpdate({ target: models.name, set: REVIVED, setWhere: sql`${models.deletedAt} is not null` })
          .returning();
        if (row === undefined) throw new MillraceError('CONFLICT', `Registered Model (name=${name}) already exists.`);
        const made = onlyRow(await described(tx, [row]));
        await audit(tx, 'model.create', { model: name, description: description ?? null, tags });
        return made;
      });
    },

    /** @throws NOT_FOUND */
    async model(name: string): Promise<RegisteredModel> {
      return onlyRow(await described(orm, [await requireModel(orm, name)]));
    },

    /** @throws NOT_FOUND */
    async describeModel(name: string, description: string | null): Promise<RegisteredModel> {
      return changeModel(name, { description });
    },

    /** @throws NOT_FOUND, CONFLICT when the new name is taken, MODEL_IN_USE when it was ever rolled out */
    async renameModel(name: string, newName: string): Promise<RegisteredModel> {
      return orm.transaction(async (tx) => {
        const now = await requireModel(tx, name);
        if (newName === name) return onlyRow(await described(tx, [now]));
        const [rollout] = await tx.select({ endpoint: rollouts.endpoint }).from(rollouts).where(eq(rollouts.model, name)).limit(1);
        if (rollout !== undefined)
          throw new MillraceError(
            'MODEL_IN_USE',
            `The model ${name} was rolled out at the endpoint ${rollout.endpoint}: what it answered is kept under its name.`,
            {
              fix: 'Register its version under the new name, and roll that out.',
            },
          );
        const [taken] = await tx.select({ name: models.name }).from(models).where(eq(models.name, newName));
        if (taken !== undefined) throw new MillraceError('CONFLICT', `Registered Model (name=${newName}) already exists.`);
        const row = onlyRow(await tx.update(models).set({ name: newName, updatedAt: sql`now()` }).where(eq(models.name, name)).returning());
        await tx.update(aliasHistory).set({ model: newName }).where(eq(aliasHistory.model, name));
        await tx.update(versions).set({ updatedAt: sql`now()` }).where(eq(versions.model, newName));
        const renamed = onlyRow(await described(tx, [row]));
        await audit(tx, 'model.rename', { model: name, to: newName });
        return renamed;
      });
    },

    /** With its versions and aliases. @throws NOT_FOUND, MODEL_IN_USE */
    async deleteModel(name: string): Promise<void> {
      await orm.transaction(async (tx) => {
        await tx.select().from(models).where(eq(models.name, name)).for('update');
        await requireModel(tx, name);
        await refuseServed(tx, name);
        await giveUpAliases(tx, name);
        await tx
          .update(versions)
          .set({ deletedAt: sql`now()` })
          .where(and(eq(versions.model, name), isNull(versions.deletedAt)));
        await tx.update(models).set({ deletedAt: sql`now()` }).where(eq(models.name, name));
        await audit(tx, 'model.delete', { model: name });
      });
    },

    /** A page: one more than `limit` are given when there are more. */
    async searchModels({ conditions, order, limit, offset, projects }: RegistrySearch): Promise<readonly RegisteredModel[]> {
      const rows = await orm
        .select()
        .from(models)
        .where(and(isNull(models.deletedAt), isOfProjects(sql`${models.name}`, { projects }), ...whereOf(conditions, MODEL_COLUMNS, sql`${models.tags}`)))
        .orderBy(...orderOf(order, MODEL_COLUMNS))
        .limit(limit + 1)
        .offset(offset);
      return described(orm, rows);
    },

    /** The newest version of each stage that is asked for; of all when none is. @throws NOT_FOUND */
    async latestVersions(name: string, stages: readonly ModelStage[]): Promise<readonly RegisteredVersion[]> {
      const { latest } = onlyRow(await described(orm, [await requireModel(orm, name)]));
      return stages.length === 0 ? latest : latest.filter(({ modelStage }) => stages.includes(modelStage));
    },

    /** A value sets the tag, null takes it away. @throws NOT_FOUND */
    async tagModel(name: string, key: string, value: string | null): Promise<void> {
      await changeModel(name, { tags: tagged(sql`${models.tags}`, key, value) });
    },

    /** Gives a version its number. @throws NOT_FOUND for an unknown model */
    async createVersion(input: CreateVersionInput): Promise<RegisteredVersion> {
      return orm.transaction(async (tx) => {
        // the model's row is the lock: two clients that register at once get two numbers
        const [counted] = await tx
          .update(models)
          .set({ lastVersion: sql`${models.lastVersion} + 1`, updatedAt: sql`now()` })
          .where(and(eq(models.name, input.model), isNull(models.deletedAt)))
          .returning({ version: models.lastVersion });
        if (counted === undefined) throw noModel(input.model);
        const row = onlyRow(
          await tx
            .insert(versions)
            .values({
              model: input.model,
              version: counted.version,
              source: input.source,
              folder: input.folder,
              runId: input.runId ?? null,
              runLink: input.runLink ?? null,
              loggedModel: input.loggedModel ?? null,
              status: 'candidate',
              metrics: {},
              description: input.description ?? null,
              tags: input.tags,
            })
            .returning(),
        );
        const { model, version, source, runId } = row;
        await audit(tx, 'version.register', { model, version, source, runId });
        return { ...row, aliases: [] };
      });
    },

    /** @throws NOT_FOUND */
    async version(model: string, version: number): Promise<RegisteredVersion> {
      return oneVersion(orm, await requireVersion(orm, model, version));
    },

    /** The version that an alias names; null when it names none. @throws NOT_FOUND for an unknown model */
    async versionByAlias(model: string, alias: string): Promise<RegisteredVersion | null> {
      await requireModel(orm, model);
      const named = (await aliasesOf(orm, [model])).find((one) => one.alias === alias);
      return named === undefined ? null : oneVersion(orm, await requireVersion(orm, model, named.version));
    },

    /** @throws NOT_FOUND */
    async describeVersion(model: string, version: number, description: string | null): Promise<RegisteredVersion> {
      return changeVersion(model, version, { description });
    },

    /** A value sets the tag, null takes it away. @throws NOT_FOUND */
    async tagVersion(model: string, version: number, key: string, value: string | null): Promise<void> {
      await changeVersion(model, version, { tags: tagged(sql`${versions.tags}`, key, value) });
    },

    /** Moves a version to a stage; with `archiveOthers` the others that were there are archived. @throws NOT_FOUND */
    async transition(input: {
      readonly model: string;
      readonly version: number;
      readonly stage: ModelStage;
      readonly archiveOthers: boolean;
    }): Promise<RegisteredVersion> {
      const { model, version, stage } = input;
      return orm.transaction(async (tx) => {
        await tx.update(models).set({ updatedAt: sql`now()` }).where(eq(models.name, model));
        await requireVersion(tx, model, version);
        if (input.archiveOthers)
          await tx
            .update(versions)
            .set({ modelStage: 'Archived', updatedAt: sql`now()` })
            .where(and(eq(versions.model, model), ne(versions.version, version), eq(versions.modelStage, stage), isNull(versions.deletedAt)));
        const row = onlyRow(
          await tx
            .update(versions)
            .set({ modelStage: stage, updatedAt: sql`now()` })
            .where(and(eq(versions.model, model), eq(versions.version, version)))
            .returning(),
        );
        const moved = await oneVersion(tx, row);
        await audit(tx, 'version.stage', { ...input });
        return moved;
      });
    },

    /** @throws NOT_FOUND, MODEL_IN_USE */
    async deleteVersion(model: string, version: number): Promise<void> {
      await orm.transaction(async (tx) => {
        await tx.update(models).set({ updatedAt: sql`now()` }).where(eq(models.name, model));
        await requireVersion(tx, model, version);
        await refuseServed(tx, model, version);
        await giveUpAliases(tx, model, version);
        await tx
          .update(versions)
          .set({ deletedAt: sql`now()`, updatedAt: sql`now()` })
          .where(and(eq(versions.model, model), eq(versions.version, version)));
        await audit(tx, 'version.delete', { model, version });
      });
    },

    /** A page: one more than `limit` are given when there are more. */
    async searchVersions({ conditions, order, limit, offset, projects }: RegistrySearch): Promise<readonly RegisteredVersion[]> {
      const rows = await orm
        .select()
        .from(versions)
        .where(
          and(isNull(versions.deletedAt), isOfProjects(sql`${versions.model}`, { projects }), ...whereOf(conditions, VERSION_COLUMNS, sql`${versions.tags}`)),
        )
        .orderBy(...orderOf(order, VERSION_COLUMNS))
        .limit(limit + 1)
        .offset(offset);
      return withAliases(orm, rows);
    },

    /** Points an alias to a version, or to none; under the alias's lock, with its next epoch. @throws NOT_FOUND */
    async setAlias(model: string, alias: string, version: number | null): Promise<void> {
      await orm.transaction(async (tx) => {
        if (version !== null) {
          await requireVersion(tx, model, version);
          await moveAlias(tx, { model, alias, version, reason: 'set by an MLflow client' });
          return;
        }
        await requireModel(tx, model);
        const now = await lockAlias(tx, model, alias);
        if (now.version !== null)
          await writeAlias(tx, { model, alias, version: null, epoch: now.epoch + 1, runId: null, reason: 'deleted by an MLflow client' });
      });
    },

    /** Where the files of a run lie; null for an unknown one. */
    async runPlace(runId: string): Promise<{ readonly uri: string } | null> {
      const [row] = await orm
        .select({ experiment: runs.experimentId, location: experiments.artifactLocation })
        .from(runs)
        .leftJoin(experiments, eq(experiments.id, runs.experimentId))
        .where(eq(runs.id, runId));
      return row === undefined ? null : { uri: `${placeOf(row.experiment, row.location)}/${runId}/artifacts` };
    },

    /** Where the files of a logged model lie, and the run that logged it; null for an unknown one. */
    async loggedModelPlace(id: string): Promise<{ readonly uri: string; readonly runId: string | null } | null> {
      const [row] = await orm
        .select({ experiment: loggedModels.experimentId, location: experiments.artifactLocation, runId: loggedModels.sourceRunId })
        .from(loggedModels)
        .innerJoin(experiments, eq(experiments.id, loggedModels.experimentId))
        .where(and(eq(loggedModels.id, id), eq(loggedModels.lifecycleStage, 'active')));
      return row === undefined ? null : { uri: `${placeOf(row.experiment, row.location)}/models/${id}/artifacts`, runId: row.runId };
    },

    /** Keeps the predictor that was made of what an MLflow client registered; the first one stays. @returns the one that is kept. @throws NOT_FOUND */
    async adoptPredictor(model: string, version: number, predictor: string): Promise<string> {
      const [row] = await orm
        .update(versions)
        .set({ predictor: sql`coalesce(${versions.predictor}, ${predictor})` })
        .where(and(eq(versions.model, model), eq(versions.version, version), isNull(versions.deletedAt)))
        .returning({ predictor: versions.predictor });
      if (row?.predictor == null) throw new MillraceError('NOT_FOUND', `There is no version ${version} of model ${model}.`);
      return row.predictor;
    },
  };
}
export type RegistryStore = ReturnType<typeof createRegistryStore>;

/** The root of an experiment's files. */
const placeOf = (experiment: number | null, location: string | null): string => (location ?? `mlflow-artifacts:/${experiment ?? 0}`).replace(/\/+$/, '');

const tagged = (tags: SQL, key: string, value: string | null): SQL =>
  value === null ? sql`${tags} - ${key}::text` : sql`${tags} || jsonb_build_object(${key}::text, ${value}::text)`;
