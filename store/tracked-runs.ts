import { sql } from 'drizzle-orm';
import { type FilterClause, type OrderClause, parseFilter, parseOrder, RUN_FILTERS } from '../contracts/mlflow-filter.ts';
import { MillraceError } from '../contracts/errors.ts';
import { writeAudit } from './audit.ts';
import type { Database } from './database.ts';
import { EXPERIMENT_ROOT_SQL, experimentNumber, experimentsOf, millisecondsSql, type Paged, type ViewType } from './experiments.ts';
import { comparison, type SqlParameters, sqlParameters } from './mlflow-filter-sql.ts';
import type { OfProjects } from './project-names.ts';
import type { RunStatus } from './schema.ts';

/**
 * Runs as MLflow's clients see them: their own, and those of pipelines.
 *
 * Invariants:
 * 1. What one call logs is written in one statement: all of it or nothing.
 * 2. A parameter keeps its value; a metric's latest point is the greatest by (step, time, value).
 * 3. A workflow's run follows its workflow: no client changes its status, or deletes it while it is under way.
 * 4. What runs log is in the write-ahead log when a call returns, and on the disk within a second: a machine of Postgres that loses
 *    power may lose that second, whole calls of it. Deleting, restoring and what concerns experiments and models waits for the disk.
 * 5. Runs leave as JSON text whose lists Postgres has written: no object is built of an item here, however many there are.
 */
export interface TrackedRunDraft {
  /** 32 hex digits. */
  readonly id: string;
  readonly experimentId: string;
  readonly name: string;
  readonly userId?: string;
  readonly startedAtMs?: number;
  readonly tags: Readonly<Record<string, string>>;
}

export interface MetricPoint {
  readonly key: string;
  /** May be NaN or infinite. */
  readonly value: number;
  readonly step: number;
  /** UTC, milliseconds. */
  readonly atMs: number;
}

export interface ModelMetricPoint extends MetricPoint {
  readonly modelId: string;
  readonly datasetName?: string;
  readonly datasetDigest?: string;
}

export interface LogBatch {
  readonly runId: string;
  /** The stage of a pipeline's run that logs; empty for the run itself. Its keys then begin with `STAGE/`. */
  readonly stage?: string;
  readonly metrics: readonly MetricPoint[];
  readonly params: readonly { readonly key: string; readonly value: string }[];
  readonly tags: readonly { readonly key: string; readonly value: string }[];
  /** Of the metrics, those that are a logged model's. */
  readonly modelMetrics?: readonly ModelMetricPoint[];
}

export interface RunDataset {
  readonly name: string;
  readonly digest: string;
  readonly sourceType: string;
  readonly source: string;
  readonly schema?: string;
  readonly profile?: string;
  readonly tags: Readonly<Record<string, string>>;
}

export interface RunModel {
  readonly modelId: string;
  readonly role: 'input' | 'output';
  readonly step: number;
}

/** Where a page of a metric's history ended. */
export interface HistoryCursor {
  readonly atMs: number;
  readonly step: number;
  /** As text: NaN and the infinities have no JSON. */
  readonly value: string;
}

const STARTED = 'coalesce(r.started_at, r.created_at)';
const NAME = `coalesce(r.name, r.workflow_id, '')`;
const STATUS = `case r.status when 'waiting' then 'SCHEDULED' when 'running' then 'RUNNING' when 'completed' then 'FINISHED' when 'failed' then 'FAILED' else 'KILLED' end`;
const ARTIFACT_URI = `${EXPERIMENT_ROOT_SQL} || '/' || r.id || '/artifacts'`;
/** What `infoText` is made of; `experiments` is `e` where it is selected. */
const INFO = `r.id, ${NAME} as name, r.experiment_id::text as experiment, coalesce(r.user_id, '') as user, ${STATUS} as status,
  ${millisecondsSql(STARTED)}::text as started, ${millisecondsSql('r.ended_at')}::text as ended, ${ARTIFACT_URI} as uri, r.lifecycle_stage as life`;
interface InfoRow {
  readonly id: string;
  readonly name: string;
  readonly experiment: string;
  readonly user: string;
  readonly status: string;
  readonly started: string;
  readonly ended: string | null;
  readonly uri: string;
  readonly life: string;
}
const infoText = (row: InfoRow): string =>
  `{"run_id":"${row.id}","run_uuid":"${row.id}","run_name":${JSON.stringify(row.name)},"experiment_id":"${row.experiment}","user_id":${JSON.stringify(row.user)},` +
  `"status":"${row.status}","start_time":${row.started},"end_time":${row.ended ?? 'null'},"artifact_uri":${JSON.stringify(row.uri)},"lifecycle_stage":"${row.life}"}`;

// Items are put together as text: half of what building JSON values costs, of which a page has tens of thousands.
const METRICS = `(select string_agg('{"key":' || to_json(name)::text || ',"value":' || case when value - value = 0 then value::text else '"' || value || '"' end ||
  ',"timestamp":' || ${millisecondsSql('at')} || ',"step":' || step || '}', ',' order by name) from latest_metrics where run_id = r.id)`;
const pairs = (table: string): string =>
  `(select string_agg('{"key":' || to_json(key)::text || ',"value":' || to_json(value)::text || '}', ',' order by key) from ${table} where run_id = r.id)`;
const RUN = `${INFO}, ${METRICS} as metrics, ${pairs('run_params')} as params, ${pairs('run_tags')} as tags,
  (select json_agg(json_build_object('tags', (select coalesce(json_agg(t), '[]') from jsonb_each_text(d.tags) t),
     'dataset', json_build_object('name', d.name, 'digest', d.digest, 'source_type', d.source_type, 'source', d.source, 'schema', d.schema, 'profile', d.profile)))::text
   from run_datasets d where d.run_id = r.id) as datasets,
  (select json_agg(x)::text from (select model_id from run_models where run_id = r.id and role = 'input') x) as "modelInputs",
  (select json_agg(x)::text from (select model_id, step from run_models where run_id = r.id and role = 'output') x) as "modelOutputs"`;
interface RunRow extends InfoRow {
  readonly metrics: string | null;
  readonly params: string | null;
  readonly tags: string | null;
  readonly datasets: string | null;
  readonly modelInputs: string | null;
  readonly modelOutputs: string | null;
}
const runText = (row: RunRow): string =>
  `{"info":${infoText(row)},"data":{"metrics":[${row.metrics ?? ''}],"params":[${row.params ?? ''}],"tags":[${row.tags ?? ''}]},` +
  `"inputs":{"dataset_inputs":${row.datasets ?? '[]'},"model_inputs":${row.modelInputs ?? '[]'}},"outputs":{"model_outputs":${row.modelOutputs ?? '[]'}}}`;

const ATTRIBUTES: Readonly<Record<string, string>> = {
  run_id: 'r.id',
  run_name: NAME,
  status: STATUS,
  user_id: 'r.user_id',
  artifact_uri: ARTIFACT_URI,
  start_time: millisecondsSql(STARTED),
  end_time: millisecondsSql('r.ended_at'),
};

/** The statement that holds it does not wait for the disk. */
const WITHOUT_WAITING = `set_config('synchronous_commit', 'off', true)`;

/** So many runs are sorted in a few milliseconds. */
const MANY_RUNS = 2_000;

/** MLflow's names of statuses, and what they are here. */
export const MLFLOW_RUN_STATUSES = {
  SCHEDULED: 'waiting',
  RUNNING: 'running',
  FINISHED: 'completed',
  FAILED: 'failed',
  KILLED: 'cancelled',
} as const satisfies Readonly<Record<string, RunStatus>>;
export type MlflowRunStatus = keyof typeof MLFLOW_RUN_STATUSES;

const missing = (runId: string): MillraceError => new MillraceError('NOT_FOUND', `Run with id=${runId} not found`);
const instantOf = (ms: number): string => new Date(ms).toISOString();
/** Lists as Postgres reads them, written at once: the driver writes them item by item, which is most of what a batch costs here. */
const numbersSql = (numbers: readonly number[]): string => `{${numbers.join(',')}}`;
const textsSql = (texts: readonly string[]): string => `{${texts.map((text) => `"${/["\\]/.test(text) ? text.replace(/["\\]/g, '\\$&') : text}"`).join(',')}}`;

/** What `millrace_log_batch` raised, in words. */
function batchError(error: unknown, runId: string): unknown {
  const { code, detail } = (error ?? {}) as { code?: unknown; detail?: unknown };
  if (code === 'P0M02') return missing(runId);
  if (code === 'P0M03') return new MillraceError('INVALID_REQUEST', `The run ${runId} must be in the 'active' state. Current state is deleted.`);
  if (code !== 'P0M01' || typeof detail !== 'string') return error;
  const { key, old, new: fresh } = JSON.parse(detail) as { key: string; old: string; new: string };
  return new MillraceError(
    'INVALID_REQUEST',
    `Changing param values is not allowed. Param with key='${key}' was already logged with value='${old}' for run ID='${runId}'. Attempted logging new value '${fresh}'.`,
  );
}

function filterSql({ entity, key, operator, value }: FilterClause, parameters: SqlParameters): string {
  switch (entity) {
    case 'attribute':
      return comparison(ATTRIBUTES[key] ?? 'null', operator, value, parameters);
    case 'metric':
      // NaN is greater than everything to Postgres, and comparable with nothing to everyone else.
      return `exists (select from latest_metrics m where m.run_id = r.id and m.name = ${parameters.add(key)} and ${comparison('m.value', operator, value, parameters)}${
        operator === '!=' ? '' : ` and m.value <> 'NaN'`
      })`;
    case 'param':
    case 'tag': {
      const from = `(select from ${entity === 'param' ? 'run_params' : 'run_tags'} t where t.run_id = r.id and t.key = ${parameters.add(key)}`;
      if (operator === 'IS NULL') return `not exists ${from})`;
      if (operator === 'IS NOT NULL') return `exists ${from})`;
      return `exists ${from} and ${comparison('t.value', operator, value, parameters)})`;
    }
    case 'dataset':
      return `exists (select from run_datasets d where d.run_id = r.id and ${comparison(
        key === 'context' ? `(d.tags ->> 'mlflow.data.context')` : key === 'name' ? 'd.name' : 'd.digest',
        operator,
        value,
        parameters,
      )})`;
  }
}

interface Ordering {
  readonly joins: string;
  readonly order: string;
}

/** How MLflow orders runs: what has no value comes last, NaN before it; then the newest first, then by id. */
function orderSql(clauses: readonly OrderClause[], parameters: SqlParameters, firstIsThere: boolean): Ordering {
  const joins: string[] = [];
  const order: string[] = [];
  for (const [place, { entity, key, ascending }] of clauses.entries()) {
    const direction = ascending ? 'asc' : 'desc';
    if (entity === 'attribute') {
      const column = ATTRIBUTES[key] ?? 'null';
      // As the index has it; it is never null.
      if (key === 'start_time') order.push(`${STARTED} ${direction}`);
      else order.push(`(${column}) is null`, `(${column}) ${key === 'end_time' ? '' : 'collate "C" '}${direction}`);
      continue;
    }
    const alias = `o${place}`;
    const on = `${alias}.run_id = r.id and ${alias}.${entity === 'metric' ? 'name' : 'key'} = ${parameters.add(key)}`;
    if (entity === 'metric') {
      const there = place === 0 && firstIsThere;
      joins.push(there ? `join latest_metrics ${alias} on ${on} and ${alias}.value <> 'NaN'` : `left join latest_metrics ${alias} on ${on}`);
      if (!there) order.push(`case when ${alias}.value is null then 2 when ${alias}.value = 'NaN' then 1 else 0 end`);
      order.push(`${alias}.value ${direction}`);
    } else {
      joins.push(`left join ${entity === 'param' ? 'run_params' : 'run_tags'} ${alias} on ${on}`);
      order.push(`${alias}.value is null`, `${alias}.value collate "C" ${direction}`);
    }
  }
  if (!clauses.some(({ entity, key }) => entity === 'attribute' && key === 'start_time')) order.push(`${STARTED} desc`);
  return { joins: joins.join(' '), order: [...order, 'r.id'].join(', ') };
}

export function createTrackedRunsStore({ pool, orm }: Database) {
  const setLifecycle = (runId: string, stage: 'active' | 'deleted'): Promise<void> =>
    orm.transaction(async (tx) => {
      await tx.execute(sql`update runs set lifecycle_stage = ${stage} where id = ${runId}`);
      await writeAudit(tx, { action: stage === 'deleted' ? 'run.delete' : 'run.restore', subject: `runs/${runId}` });
    });
  /** Runs as JSON texts, in the order of their ids. */
  const runTexts = async (ids: readonly string[]): Promise<readonly string[]> => {
    if (ids.length === 0) return [];
    const { rows } = await pool.query<RunRow>({
      name: 'tracked_runs',
      text: `select ${RUN} from unnest($1::text[]) with ordinality as w (id, place)
             join runs r on r.id = w.id join experiments e on e.id = r.experiment_id order by w.place`,
      values: [ids],
    });
    return rows.map(runText);
  };
  const state = async (runId: string): Promise<{ readonly lifecycle: string; readonly status: RunStatus; readonly workflow: string | null }> => {
    const { rows } = await pool.query<{ lifecycle: string; status: RunStatus; workflow: string | null }>({
      name: 'tracked_run_state',
      text: 'select lifecycle_stage as lifecycle, status, workflow_id as workflow from runs where id = $1',
      values: [runId],
    });
    const [row] = rows;
    if (row === undefined) throw missing(runId);
    return row;
  };
  const hasMany = async (experiments: readonly number[]): Promise<boolean> => {
    const { rowCount } = await pool.query({
      name: 'experiments_with_many',
      text: 'select from runs where experiment_id = any($1::integer[]) offset $2 limit 1',
      values: [experiments, MANY_RUNS],
    });
    return rowCount === 1;
  };
  const requireActive = async (runId: string): Promise<void> => {
    const found = await state(runId);
    if (found.lifecycle !== 'active') throw new MillraceError('INVALID_REQUEST', `The run ${runId} must be in the 'active' state. Current state is deleted.`);
  };

  return {
    /**
     * Makes a run that is under way.
     *
     * @returns The URI below which its files go.
     * @throws NOT_FOUND for the experiment; INVALID_REQUEST for a deleted one
     */
    async create(draft: TrackedRunDraft): Promise<string> {
      const keys = Object.keys(draft.tags);
      const { rows } = await pool.query<{ stage: string; root: string }>({
        name: 'tracked_run_create',
        text: `with e as (select id, lifecycle_stage, ${EXPERIMENT_ROOT_SQL} as root from experiments e where id = $2),
               r as (insert into runs (id, pipeline, name, user_id, experiment_id, status, params, trigger, started_at)
                     select $1, '', $3, $4, e.id, 'running', '{}', '{"kind": "api"}', coalesce($5::timestamptz, now()) from e where e.lifecycle_stage = 'active' returning id),
               t as (insert into run_tags (run_id, key, value) select r.id, key, value from r, unnest($6::text[], $7::text[]) as tags (key, value))
               select lifecycle_stage as stage, root, ${WITHOUT_WAITING} from e`,
        values: [
          draft.id,
          experimentNumber(draft.experimentId),
          draft.name,
          draft.userId ?? null,
          draft.startedAtMs === undefined ? null : instantOf(draft.startedAtMs),
          keys,
          keys.map((key) => draft.tags[key]),
        ],
      });
      if (rows[0] === undefined) throw new MillraceError('NOT_FOUND', `No Experiment with id=${draft.experimentId} exists`);
      if (rows[0].stage !== 'active')
        throw new MillraceError('INVALID_REQUEST', `The experiment ${draft.experimentId} must be in the 'active' state. Current state is deleted.`);
      return `${rows[0].root}/${draft.id}/artifacts`;
    },

    /** Runs as MLflow's JSON, in the order of their ids; those that are not there are left out. */
    jsons: runTexts,

    /** A run as MLflow's JSON. @throws NOT_FOUND */
    async json(runId: string): Promise<string> {
      const [run] = await runTexts([runId]);
      if (run === undefined) throw missing(runId);
      return run;
    },

    /**
     * Status, end and name. Of a workflow's run only the name is taken: the rest is its workflow's.
     *
     * @returns The run's `info` as MLflow's JSON.
     * @throws NOT_FOUND, INVALID_REQUEST
     */
    async update(input: { readonly runId: string; readonly status?: MlflowRunStatus; readonly endedAtMs?: number; readonly name?: string }): Promise<string> {
      const { rows } = await pool.query<InfoRow>({
        name: 'tracked_run_update',
        text: `with r as (update runs set name = coalesce($4, name),
                 status = case when workflow_id is null then coalesce($2, status) else status end,
                 ended_at = case when workflow_id is not null then ended_at when $2 in ('running', 'waiting') then $3::timestamptz else coalesce($3::timestamptz, ended_at) end
                 where id = $1 and lifecycle_stage = 'active' returning *),
               t as (insert into run_tags (run_id, key, value) select r.id, 'mlflow.runName', $4 from r where $4::text is not null
                     on conflict (run_id, key) do update set value = excluded.value)
               select ${INFO}, ${WITHOUT_WAITING} from r join experiments e on e.id = r.experiment_id`,
        values: [
          input.runId,
          input.status === undefined ? null : MLFLOW_RUN_STATUSES[input.status],
          input.endedAtMs === undefined ? null : instantOf(input.endedAtMs),
          input.name ?? null,
        ],
      });
      if (rows[0] !== undefined) return infoText(rows[0]);
      await requireActive(input.runId);
      throw missing(input.runId);
    },

    /** Hides a run. @throws NOT_FOUND; INVALID_REQUEST for a workflow's run that is under way */
    async remove(runId: string): Promise<void> {
      const { status, workflow } = await state(runId);
      if (workflow !== null && (status === 'running' || status === 'waiting'))
        throw new MillraceError(
          'INVALID_REQUEST',
          `Run ${runId} belongs to the workflow ${workflow}, which is under way: cancel it first (millrace runs cancel).`,
        );
      await setLifecycle(runId, 'deleted');
    },

    /** Brings a deleted run back. @throws NOT_FOUND */
    async restore(runId: string): Promise<void> {
      await state(runId);
      await setLifecycle(runId, 'active');
    },

    /** Logs it all, or nothing. @throws NOT_FOUND; INVALID_REQUEST for a deleted run and for a parameter that has another value */
    async log(batch: LogBatch): Promise<void> {
      const { metrics, params, tags, modelMetrics = [] } = batch;
      const statement = {
        name: 'tracked_run_log',
        text: `select ${WITHOUT_WAITING}, millrace_log_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
        values: [
          batch.runId,
          batch.stage ?? '',
          textsSql(metrics.map((m) => m.key)),
          numbersSql(metrics.map((m) => m.value)),
          numbersSql(metrics.map((m) => m.step)),
          numbersSql(metrics.map((m) => m.atMs)),
          textsSql(params.map((p) => p.key)),
          textsSql(params.map((p) => p.value)),
          textsSql(tags.map((t) => t.key)),
          textsSql(tags.map((t) => t.value)),
        ],
      };
      try {
        if (modelMetrics.length === 0) {
          await pool.query(statement);
          return;
        }
        const client = await pool.connect();
        try {
          await client.query('begin');
          await client.query(statement);
          await client.query({
            name: 'tracked_model_metrics',
            text: `insert into logged_model_metrics (model_id, run_id, key, value, step, at, dataset_name, dataset_digest)
                   select p.model_id, $1, p.key, p.value, p.step, p.at, p.dataset_name, p.dataset_digest
                   from unnest($2::text[], $3::text[], $4::double precision[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[])
                     as p (model_id, key, value, step, at, dataset_name, dataset_digest)
                   on conflict (model_id, key, at, step, run_id, dataset_name, dataset_digest) do update set value = excluded.value`,
            values: [
              batch.runId,
              modelMetrics.map((m) => m.modelId),
              modelMetrics.map((m) => m.key),
              modelMetrics.map((m) => m.value),
              modelMetrics.map((m) => m.step),
              modelMetrics.map((m) => instantOf(m.atMs)),
              modelMetrics.map((m) => m.datasetName ?? ''),
              modelMetrics.map((m) => m.datasetDigest ?? ''),
            ],
          });
          await client.query('commit');
        } catch (error) {
          await client.query('rollback').catch(() => undefined);
          throw error;
        } finally {
          client.release();
        }
      } catch (error) {
        throw batchError(error, batch.runId);
      }
    },

    /** @throws NOT_FOUND also for a tag that is not there; INVALID_REQUEST for a deleted run */
    async removeTag(runId: string, key: string): Promise<void> {
      await requireActive(runId);
      const { rowCount } = await pool.query('delete from run_tags where run_id = $1 and key = $2', [runId, key]);
      if (rowCount === 0) throw new MillraceError('NOT_FOUND', `No tag with name: ${key} in run with id ${runId}`);
    },

    /** Notes what a run read and made. What is noted again stays as it is. @throws NOT_FOUND, INVALID_REQUEST */
    async relate(input: { readonly runId: string; readonly datasets?: readonly RunDataset[]; readonly models?: readonly RunModel[] }): Promise<void> {
      await requireActive(input.runId);
      const { datasets = [], models = [] } = input;
      await pool.query(
        `with d as (
           insert into run_datasets (run_id, name, digest, source_type, source, schema, profile, tags)
           select $1, x ->> 'name', x ->> 'digest', x ->> 'sourceType', x ->> 'source', x ->> 'schema', x ->> 'profile', x -> 'tags' from jsonb_array_elements($2::jsonb) x
           on conflict do nothing)
         insert into run_models (run_id, model_id, role, step)
         select $1, x ->> 'modelId', x ->> 'role', (x ->> 'step')::bigint from jsonb_array_elements($3::jsonb) x on conflict do nothing`,
        [input.runId, JSON.stringify(datasets), JSON.stringify(models)],
      );
    },

    /** Adds to the tag in which MLflow 2's clients keep what they logged as models. @throws NOT_FOUND, INVALID_REQUEST */
    async appendLoggedModel(runId: string, model: unknown, maxLength: number): Promise<void> {
      await requireActive(runId);
      const { rowCount } = await pool.query(
        `insert into run_tags as t (run_id, key, value) values ($1, 'mlflow.log-model.history', json_build_array($2::json)::text)
         on conflict (run_id, key) do update set value = (t.value::jsonb || $2::jsonb)::text where length((t.value::jsonb || $2::jsonb)::text) <= $3`,
        [runId, JSON.stringify(model), maxLength],
      );
      if (rowCount === 0)
        throw new MillraceError('INVALID_REQUEST', `The models logged to run ${runId} are more than a tag can hold (${maxLength} characters).`);
    },

    /** Ids of the runs that fit a filter of MLflow's language; the newest first when no order is given. @throws INVALID_REQUEST */
    async search(
      input: OfProjects & {
        readonly experimentIds: readonly string[];
        readonly filter: string;
        readonly orderBy: readonly string[];
        readonly view: ViewType;
        readonly limit: number;
        readonly offset: number;
      },
    ): Promise<Paged<string>> {
      const filters = parseFilter(input.filter, RUN_FILTERS);
      const clauses = parseOrder(input.orderBy, RUN_FILTERS);
      const experiments = await experimentsOf({ pool }, input.experimentIds, input);
      if (experiments.length === 0) return { items: [], nextOffset: null };
      const wanted = input.limit + 1;
      const usesRoot = [...filters, ...clauses].some(({ entity, key }) => entity === 'attribute' && key === 'artifact_uri');
      const query = async (firstIsThere: boolean): Promise<readonly string[]> => {
        const parameters = sqlParameters();
        const where = [
          experiments.length === 1 ? `r.experiment_id = ${parameters.add(experiments[0])}` : `r.experiment_id = any(${parameters.add(experiments)}::integer[])`,
          ...(input.view === 'all' ? [] : [`r.lifecycle_stage = ${parameters.add(input.view)}`]),
          ...filters.map((clause) => filterSql(clause, parameters)),
        ];
        const { joins, order } = orderSql(clauses, parameters, firstIsThere);
        const { rows } = await pool.query<{ id: string }>(
          `select r.id from runs r ${usesRoot ? 'join experiments e on e.id = r.experiment_id' : ''} ${joins} where ${where.join(' and ')}
           order by ${order} limit ${parameters.add(wanted)} offset ${parameters.add(input.offset)}`,
          [...parameters.values],
        );
        return rows.map(({ id }) => id);
      };
      // Runs that have the first metric come first, and an index holds them in its order: a page of them is read from there alone. It holds
      // those of all experiments, though, so it is of use only where these have many.
      const quick = clauses[0]?.entity === 'metric' && (await hasMany(experiments)) ? await query(true) : [];
      const ids =
        quick.length === wanted || (quick.length > 0 && filters.some((f) => f.entity === 'metric' && f.key === clauses[0]?.key && f.operator !== '!='))
          ? quick
          : await query(false);
      return { items: ids.slice(0, input.limit), nextOffset: ids.length > input.limit ? input.offset + input.limit : null };
    },

    /**
     * A page of a metric's points by (time, step, value), as MLflow's JSON, at most `limit`. A key of a stage is written STAGE/KEY.
     *
     * @throws NOT_FOUND for the run
     */
    async history(input: {
      readonly runId: string;
      readonly name: string;
      readonly limit: number;
      readonly after?: HistoryCursor;
    }): Promise<{ readonly points: string; readonly next: HistoryCursor | null }> {
      await state(input.runId);
      const { after, limit } = input;
      const { rows } = await pool.query<{ points: string; count: number; atMs: number | null; step: string | null; value: string | null }>({
        name: after === undefined ? 'metric_history' : 'metric_history_after',
        text: `with l as (select key, stage from latest_metrics where run_id = $1 and name = $2),
               page as materialized (
                 select at, step, value from metrics where run_id = $1 and key = (select key from l) and stage = (select stage from l)
                 ${after === undefined ? '' : 'and (at, step, value) > ($4::timestamptz, $5::bigint, $6::double precision)'}
                 order by at, step, value limit $3),
               ending as (select at, step, value from page order by at desc, step desc, value desc limit 1)
               select coalesce((select json_agg(json_build_object('key', $2::text, 'value', value, 'timestamp', ${millisecondsSql('at')}, 'step', step)) from page), '[]')::text as points,
                 (select count(*) from page)::int as count,
                 (select ${millisecondsSql('at')}::double precision from ending) as "atMs", (select step::text from ending) as step, (select value::text from ending) as value`,
        values: [input.runId, input.name, limit, ...(after === undefined ? [] : [instantOf(after.atMs), after.step, after.value])],
      });
      const [row] = rows;
      if (row === undefined) return { points: '[]', next: null };
      const { atMs, step, value } = row;
      return { points: row.points, next: row.count < limit || atMs === null || step === null || value === null ? null : { atMs, step: Number(step), value } };
    },

    /** Points of a metric in several runs, evenly taken from all that lie between two steps, the first and the last among them, as MLflow's JSON. */
    async sampledHistory(input: {
      readonly runIds: readonly string[];
      readonly name: string;
      /** Of each run, at most about this many. */
      readonly limit: number;
      readonly fromStep?: number;
      readonly toStep?: number;
    }): Promise<string> {
      const { rows } = await pool.query<{ points: string }>(
        `select coalesce(json_agg(json_build_object('key', $2::text, 'value', value, 'timestamp', ${millisecondsSql('at')}, 'step', step, 'run_id', run_id)
                         order by run_id, step, at, value), '[]')::text as points
         from (select m.*, row_number() over w as place, count(*) over (partition by m.run_id) as points
               from latest_metrics l join metrics m on m.run_id = l.run_id and m.key = l.key and m.stage = l.stage
               where l.run_id = any($1::text[]) and l.name = $2 and m.step between $4 and $5
               window w as (partition by m.run_id order by m.step, m.at, m.value)) t
         where points <= $3 or place = points or (place - 1) * ($3 - 1) / points <> (place - 2) * ($3 - 1) / points or (place = 1 and $3 > 1)`,
        [input.runIds, input.name, Math.max(1, input.limit), input.fromStep ?? Number.MIN_SAFE_INTEGER, input.toStep ?? Number.MAX_SAFE_INTEGER],
      );
      return rows[0]?.points ?? '[]';
    },
  };
}
export type TrackedRunsStore = ReturnType<typeof createTrackedRunsStore>;
