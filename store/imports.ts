import { sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { writeAudit } from './audit.ts';
import { type Database, type Executor, onlyRow } from './database.ts';
import { moveAlias, REVIVED } from './models.ts';
import { type LoggedModelStatus, models, type ModelStage, type RunStatus, versions } from './schema.ts';

/**
 * Records that were made elsewhere, under the ids and times that they had there.
 *
 * Invariants:
 * 1. A run, a logged model, a model with its versions and aliases: each is written in one transaction, after its files are in the
 *    artifact store. Half of one is never seen.
 * 2. What is there already keeps what it has: a run that was still under way is brought up to date, nothing else is written over.
 * 3. A number that a version ever had is not given to another one.
 */
export interface ImportedFile {
  /** Below the root of all: `EXPERIMENT/RUN/artifacts/model/MLmodel`. */
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface ImportedExperiment {
  readonly name: string;
  readonly lifecycleStage: 'active' | 'deleted';
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAtMs: number | undefined;
  readonly updatedAtMs: number | undefined;
}

/** Points of one metric, column by column: a million of them take 24 MB. */
export interface ImportedPoints {
  readonly key: string;
  readonly values: readonly number[];
  readonly steps: readonly number[];
  /** UTC, milliseconds. */
  readonly atMs: readonly number[];
}

export interface ImportedRun {
  readonly id: string;
  readonly experimentId: string;
  readonly name: string;
  readonly userId: string;
  readonly status: RunStatus;
  readonly lifecycleStage: 'active' | 'deleted';
  readonly startedAtMs: number | undefined;
  readonly endedAtMs: number | undefined;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  readonly metrics: readonly ImportedPoints[];
  readonly datasets: readonly {
    readonly name: string;
    readonly digest: string;
    readonly sourceType: string;
    readonly source: string;
    readonly schema: string | null;
    readonly profile: string | null;
    readonly tags: Readonly<Record<string, string>>;
  }[];
  readonly models: readonly { readonly modelId: string; readonly role: 'input' | 'output'; readonly step: number }[];
  readonly files: readonly ImportedFile[];
}

export interface ImportedLoggedModel {
  readonly id: string;
  readonly experimentId: string;
  readonly name: string;
  readonly modelType: string | null;
  readonly sourceRunId: string | null;
  readonly status: LoggedModelStatus;
  readonly createdAtMs: number | undefined;
  readonly updatedAtMs: number | undefined;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  readonly metrics: readonly {
    readonly runId: string;
    readonly key: string;
    readonly value: number;
    readonly step: number;
    readonly atMs: number;
    readonly datasetName: string;
    readonly datasetDigest: string;
  }[];
  readonly files: readonly ImportedFile[];
}

export interface ImportedVersion {
  readonly version: number;
  /** SHA-256; of one that a run of Millrace's registered. It then has no source. */
  readonly predictor: string | null;
  readonly source: string | null;
  readonly folder: string | null;
  readonly runId: string | null;
  readonly runLink: string | null;
  readonly loggedModel: string | null;
  readonly stage: ModelStage;
  readonly description: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAtMs: number | undefined;
  readonly updatedAtMs: number | undefined;
}

export interface ImportedModel {
  readonly name: string;
  readonly description: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAtMs: number | undefined;
  readonly updatedAtMs: number | undefined;
  readonly versions: readonly ImportedVersion[];
  readonly aliases: readonly { readonly alias: string; readonly version: number }[];
}

/** What is compared when all is done. */
export const IMPORT_COUNTS = [
  'experiments',
  'runs',
  'params',
  'metrics',
  'tags',
  'datasets',
  'loggedModels',
  'modelMetrics',
  'models',
  'versions',
  'aliases',
  'files',
  'bytes',
] as const;
export type ImportCounts = Readonly<Record<(typeof IMPORT_COUNTS)[number], number>>;

export interface ImportScope {
  readonly experiments: readonly string[];
  readonly runs: readonly string[];
  readonly loggedModels: readonly string[];
  readonly models: readonly string[];
  readonly versions: readonly { readonly model: string; readonly version: number }[];
  readonly aliases: readonly { readonly model: string; readonly alias: string; readonly version: number }[];
  /** Folders whose files count. */
  readonly folders: readonly string[];
}

const POINTS_AT_ONCE = 10_000;
const IDS_AT_ONCE = 10_000;

const instant = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());
/** An array as one parameter. */
const array = (values: readonly unknown[], type: string) => sql`${sql.param([...values])}::${sql.raw(type)}[]`;
const json = (value: unknown) => sql`${JSON.stringify(value)}::jsonb`;
const pairs = (of: Readonly<Record<string, string>>) => sql`unnest(${array(Object.keys(of), 'text')}, ${array(Object.values(of), 'text')}) as p (key, value)`;

async function nameFiles(tx: Executor, files: readonly ImportedFile[]): Promise<void> {
  for (let from = 0; from < files.length; from += IDS_AT_ONCE) {
    const part = files.slice(from, from + IDS_AT_ONCE);
    await tx.execute(sql`
      insert into artifact_files (path, sha256, size_bytes)
      select * from unnest(${array(
        part.map(({ path }) => path),
        'text',
      )}, ${array(
        part.map(({ sha256 }) => sha256),
        'text',
      )}, ${array(
        part.map(({ sizeBytes }) => sizeBytes),
        'bigint',
      )})
      on conflict (path) do update set sha256 = excluded.sha256, size_bytes = excluded.size_bytes, updated_at = now()`);
  }
}

async function addPoints(tx: Executor, runId: string, { key, values, steps, atMs }: ImportedPoints): Promise<void> {
  for (let from = 0; from < values.length; from += POINTS_AT_ONCE) {
    const until = from + POINTS_AT_ONCE;
    await tx.execute(sql`
      insert into metrics (run_id, stage, key, value, step, at)
      select ${runId}, '', ${key}, value, step, to_timestamp(at / 1000.0)
      from unnest(${array(values.slice(from, until).map(String), 'double precision')}, ${array(steps.slice(from, until), 'bigint')},
                  ${array(atMs.slice(from, until), 'bigint')}) as m (value, step, at)
      on conflict do nothing`);
  }
}

export function createImportsStore({ orm, pool }: Database) {
  return {
    /** Makes an experiment of the name, or adds tags to the one that is there. @returns its id */
    async putExperiment(draft: ImportedExperiment): Promise<string> {
      const { rows } = await pool.query<{ id: string }>(
        `insert into experiments as e (name, lifecycle_stage, tags, created_at, updated_at)
         values ($1, $2, $3::jsonb, coalesce($4::timestamptz, now()), coalesce($5::timestamptz, $4::timestamptz, now()))
         on conflict (name) do update set tags = excluded.tags || e.tags
         returning id::text`,
        [draft.name, draft.lifecycleStage, JSON.stringify(draft.tags), instant(draft.createdAtMs), instant(draft.updatedAtMs)],
      );
      return onlyRow(rows).id;
    },

    /** @throws CONFLICT where another run has taken the id */
    async putRun(run: ImportedRun): Promise<void> {
      await orm.transaction(async (tx) => {
        const started = instant(run.startedAtMs);
        const { rowCount } = await tx.execute(sql`
          insert into runs (id, pipeline, name, user_id, experiment_id, lifecycle_stage, status, params, trigger, created_at, started_at, ended_at)
          values (${run.id}, '', ${run.name}, ${run.userId === '' ? null : run.userId}, ${Number(run.experimentId)}, ${run.lifecycleStage}, ${run.status}, '{}',
                  '{"kind": "api"}', coalesce(${started}::timestamptz, now()), ${started}::timestamptz, ${instant(run.endedAtMs)}::timestamptz)
          on conflict (id) do update set name = excluded.name, status = excluded.status, ended_at = excluded.ended_at, lifecycle_stage = excluded.lifecycle_stage
          where runs.workflow_id is null and runs.status in ('waiting', 'running') and runs.experiment_id = excluded.experiment_id`);
        if (rowCount === 0) throw new MillraceError('CONFLICT', `There is another run ${run.id} by now.`);
        await tx.execute(sql`insert into run_params (run_id, key, value) select ${run.id}, key, value from ${pairs(run.params)} on conflict do nothing`);
        await tx.execute(sql`
          insert into run_tags (run_id, key, value) select ${run.id}, key, value from ${pairs(run.tags)}
          on conflict (run_id, key) do update set value = excluded.value`);
        for (const points of run.metrics) await addPoints(tx, run.id, points);
        await tx.execute(sql`
          insert into run_datasets (run_id, name, digest, source_type, source, schema, profile, tags)
          select ${run.id}, x ->> 'name', x ->> 'digest', x ->> 'sourceType', x ->> 'source', x ->> 'schema', x ->> 'profile', x -> 'tags'
          from jsonb_array_elements(${json(run.datasets)}) x on conflict do nothing`);
        await tx.execute(sql`
          insert into run_models (run_id, model_id, role, step)
          select ${run.id}, x ->> 'modelId', x ->> 'role', (x ->> 'step')::bigint from jsonb_array_elements(${json(run.models)}) x on conflict do nothing`);
        await nameFiles(tx, run.files);
      });
    },

    /** One that is there stays as it is. */
    async putLoggedModel(model: ImportedLoggedModel): Promise<void> {
      await orm.transaction(async (tx) => {
        const { rowCount } = await tx.execute(sql`
          insert into logged_models (id, experiment_id, name, model_type, source_run_id, status, params, tags, created_at, updated_at)
          values (${model.id}, ${Number(model.experimentId)}, ${model.name}, ${model.modelType}, ${model.sourceRunId}, ${model.status}, ${json(model.params)},
                  ${json(model.tags)}, coalesce(${instant(model.createdAtMs)}::timestamptz, now()),
                  coalesce(${instant(model.updatedAtMs)}::timestamptz, ${instant(model.createdAtMs)}::timestamptz, now()))
          on conflict do nothing`);
        if (rowCount === 0) return;
        await tx.execute(sql`
          insert into logged_model_metrics (model_id, run_id, key, value, step, at, dataset_name, dataset_digest)
          select ${model.id}, x ->> 'runId', x ->> 'key', (x ->> 'value')::double precision, (x ->> 'step')::bigint, to_timestamp((x ->> 'atMs')::bigint / 1000.0),
                 x ->> 'datasetName', x ->> 'datasetDigest'
          from jsonb_array_elements(${json(model.metrics.map((point) => ({ ...point, value: String(point.value) })))}) x on conflict do nothing`);
        await nameFiles(tx, model.files);
      });
    },

    /** A model with versions and aliases that are not there yet. */
    async putModel(draft: ImportedModel, from: string): Promise<void> {
      await orm.transaction(async (tx) => {
        const { name } = draft;
        const createdAt = instant(draft.createdAtMs);
        const highest = draft.versions.reduce((most, { version }) => Math.max(most, version), 0);
        await tx
          .insert(models)
          .values({
            name,
            description: draft.description,
            tags: draft.tags,
            ...(createdAt === null ? {} : { createdAt, updatedAt: instant(draft.updatedAtMs) ?? createdAt }),
          })
          .onConflictDoUpdate({ target: models.name, set: REVIVED });
        // the model's row is the lock: nobody else gives numbers now
        await tx.execute(sql`update models set last_version = greatest(last_version, ${highest}) where name = ${name}`);
        const added: number[] = [];
        for (const version of draft.versions) {
          const made = instant(version.createdAtMs);
          const [row] = await tx
            .insert(versions)
            .values({
              model: name,
              version: version.version,
              predictor: version.predictor,
              source: version.source,
              folder: version.folder,
              runId: version.runId,
              runLink: version.runLink,
              loggedModel: version.loggedModel,
              modelStage: version.stage,
              status: 'candidate',
              metrics: {},
              description: version.description,
              tags: version.tags,
              ...(made === null ? {} : { createdAt: made, updatedAt: instant(version.updatedAtMs) ?? made }),
            })
            .onConflictDoNothing()
            .returning({ version: versions.version });
          if (row !== undefined) added.push(row.version);
        }
        for (const { alias, version } of draft.aliases) {
          const { rows } = await tx.execute<{ version: number | null }>(sql`select version from aliases where model = ${name} and alias = ${alias}`);
          if (rows[0]?.version !== version) await moveAlias(tx, { model: name, alias, version, reason: `imported from ${from}` });
        }
        for (const version of added)
          await writeAudit(tx, { action: 'version.register', subject: `models/${name}/versions/${String(version)}`, details: { model: name, version, from } });
      });
    },

    /** Numbers that a model's versions have or had, each with what tells whether it is the same one; null for an unknown model. */
    async model(name: string): Promise<{
      readonly description: string | null;
      readonly tags: Readonly<Record<string, string>>;
      readonly isDeleted: boolean;
      readonly versions: readonly (Pick<ImportedVersion, 'version' | 'predictor' | 'folder' | 'source' | 'runId' | 'loggedModel'> & {
        readonly isDeleted: boolean;
      })[];
      readonly aliases: readonly { readonly alias: string; readonly version: number }[];
    } | null> {
      const [model] = await orm.select().from(models).where(sql`name = ${name}`);
      if (model === undefined) return null;
      const all = await orm.select().from(versions).where(sql`model = ${name}`);
      const { rows } = await orm.execute<{ alias: string; version: number }>(
        sql`select alias, version from aliases where model = ${name} and version is not null`,
      );
      return {
        description: model.description,
        tags: model.tags,
        isDeleted: model.deletedAt !== null,
        versions: all.map((one) => ({ ...one, isDeleted: one.deletedAt !== null })),
        aliases: rows,
      };
    },

    /** What the store has of what was imported. */
    async counts(scope: ImportScope): Promise<ImportCounts> {
      /** Sums over ids, a bounded number at a time; `$1` is their array. */
      const sum = async (ids: readonly unknown[], text: string): Promise<number> => {
        let total = 0;
        for (let from = 0; from < ids.length; from += IDS_AT_ONCE) {
          const { rows } = await pool.query<{ n: string | null }>(text, [ids.slice(from, from + IDS_AT_ONCE)]);
          total += Number(rows[0]?.n ?? 0);
        }
        return total;
      };
      const ofRuns = (table: string): Promise<number> => sum(scope.runs, `select count(*) as n from ${table} where run_id = any($1)`);
      const inFolders = "unnest($1::text[]) as f (folder) join artifact_files a on a.path > f.folder || '/' and a.path < f.folder || '0'";
      const named = (of: readonly { readonly model: string; readonly version: number; readonly alias?: string }[]): readonly string[] =>
        of.map((one) => JSON.stringify(one));
      const parsed = 'unnest($1::text[]) as u (text), jsonb_to_record(u.text::jsonb) as j (model text, version integer, alias text)';
      return {
        experiments: await sum(scope.experiments, 'select count(*) as n from experiments where name = any($1)'),
        runs: await sum(scope.runs, 'select count(*) as n from runs where id = any($1)'),
        params: await ofRuns('run_params'),
        metrics: await ofRuns('metrics'),
        tags: await ofRuns('run_tags'),
        datasets: await ofRuns('run_datasets'),
        loggedModels: await sum(scope.loggedModels, 'select count(*) as n from logged_models where id = any($1)'),
        modelMetrics: await sum(scope.loggedModels, 'select count(*) as n from logged_model_metrics where model_id = any($1)'),
        models: await sum(scope.models, 'select count(*) as n from models where deleted_at is null and name = any($1)'),
        versions: await sum(
          named(scope.versions),
          `select count(*) as n from ${parsed} join versions v on (v.model, v.version) = (j.model, j.version) and v.deleted_at is null`,
        ),
        aliases: await sum(
          named(scope.aliases),
          `select count(*) as n from ${parsed} join aliases a on (a.model, a.version, a.alias) = (j.model, j.version, j.alias)`,
        ),
        files: await sum(scope.folders, `select count(*) as n from ${inFolders}`),
        bytes: await sum(scope.folders, `select sum(a.size_bytes) as n from ${inFolders}`),
      };
    },
  };
}
export type ImportsStore = ReturnType<typeof createImportsStore>;
