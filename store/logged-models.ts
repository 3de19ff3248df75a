import { randomUUID } from 'node:crypto';
import { MillraceError } from '../contracts/errors.ts';
import { LOGGED_MODEL_FILTERS, parseFilter, parseOrder } from '../contracts/mlflow-filter.ts';
import type { Database } from './database.ts';
import { EXPERIMENT_ROOT_SQL, experimentNumber, experimentsOf, millisecondsSql, type Paged } from './experiments.ts';
import { comparison, sqlParameters } from './mlflow-filter-sql.ts';
import type { OfProjects } from './project-names.ts';
import type { LoggedModelStatus } from './schema.ts';

/**
 * Models that MLflow's clients logged. They become versions of a registered model only when they are registered.
 *
 * Invariants:
 * 1. A model's parameter keeps its value.
 * 2. Deleting hides a model; nothing is removed.
 */
export interface LoggedModelDraft {
  readonly experimentId: string;
  readonly name: string;
  readonly modelType?: string;
  readonly sourceRunId?: string;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
}

/** An order of logged models: MLflow gives their fields one by one. */
export interface LoggedModelOrder {
  /** `creation_timestamp`, `metrics.accuracy` … */
  readonly field: string;
  readonly ascending: boolean;
  /** Of a metric: only points on this dataset count. */
  readonly datasetName?: string;
  readonly datasetDigest?: string;
}

export interface LoggedModelDataset {
  readonly name: string;
  readonly digest?: string;
}

const ARTIFACT_URI = `${EXPERIMENT_ROOT_SQL} || '/models/' || m.id || '/artifacts'`;
const CREATED = millisecondsSql('m.created_at');
const UPDATED = millisecondsSql('m.updated_at');
const STATUS = `case m.status when 'pending' then 'PENDING' when 'ready' then 'READY' else 'FAILED' end`;
const pairs = (column: string): string => `(select coalesce(json_agg(t order by t.key), '[]') from jsonb_each_text(${column}) t)`;
const MODEL = `json_build_object('info', json_build_object('model_id', m.id, 'experiment_id', m.experiment_id::text, 'name', m.name, 'creation_timestamp_ms', ${CREATED},
  'last_updated_timestamp_ms', ${UPDATED}, 'artifact_uri', ${ARTIFACT_URI}, 'model_type', m.model_type, 'source_run_id', m.source_run_id,
  'status', case m.status when 'pending' then 'LOGGED_MODEL_PENDING' when 'ready' then 'LOGGED_MODEL_READY' else 'LOGGED_MODEL_UPLOAD_FAILED' end, 'tags', ${pairs('m.tags')}),
 'data', json_build_object('params', ${pairs('m.params')}, 'metrics', coalesce((select json_agg(json_build_object('key', p.key, 'value', p.value,
   'timestamp', ${millisecondsSql('p.at')}, 'step', p.step, 'run_id', p.run_id, 'model_id', p.model_id, 'dataset_name', nullif(p.dataset_name, ''),
   'dataset_digest', nullif(p.dataset_digest, '')) order by p.key, p.at, p.step) from logged_model_metrics p where p.model_id = m.id), '[]')))`;
const FROM = 'from logged_models m join experiments e on e.id = m.experiment_id';
const ATTRIBUTES: Readonly<Record<string, string>> = {
  name: 'm.name',
  model_id: 'm.id',
  model_type: 'm.model_type',
  status: STATUS,
  source_run_id: 'm.source_run_id',
  creation_timestamp: CREATED,
  last_updated_timestamp: UPDATED,
};

const missing = (id: string): MillraceError => new MillraceError('NOT_FOUND', `Logged model with ID '${id}' not found.`);

export function createLoggedModelsStore({ pool }: Database) {
  const lifecycle = async (id: string): Promise<string> => {
    const { rows } = await pool.query<{ stage: string }>('select lifecycle_stage as stage from logged_models where id = $1', [id]);
    if (rows[0] === undefined) throw missing(id);
    return rows[0].stage;
  };
  const requireActive = async (id: string): Promise<void> => {
    if ((await lifecycle(id)) !== 'active') throw missing(id);
  };
  return {
    /** Makes a model whose files are still to come, and answers with its id. @throws NOT_FOUND for the experiment, INVALID_REQUEST for a deleted one */
    async create(draft: LoggedModelDraft): Promise<string> {
      const id = `m-${randomUUID().replaceAll('-', '')}`;
      const { rows } = await pool.query<{ stage: string }>(
        `with e as (select id, lifecycle_stage from experiments where id = $2),
         m as (insert into logged_models (id, experiment_id, name, model_type, source_run_id, status, params, tags)
               select $1, e.id, $3, $4, $5, 'pending', $6::jsonb, $7::jsonb from e where e.lifecycle_stage = 'active')
         select lifecycle_stage as stage from e`,
        [
          id,
          experimentNumber(draft.experimentId),
          draft.name,
          draft.modelType ?? null,
          draft.sourceRunId ?? null,
          JSON.stringify(draft.params),
          JSON.stringify(draft.tags),
        ],
      );
      if (rows[0] === undefined) throw new MillraceError('NOT_FOUND', `No Experiment with id=${draft.experimentId} exists`);
      if (rows[0].stage !== 'active')
        throw new MillraceError('INVALID_REQUEST', `The experiment ${draft.experimentId} must be in the 'active' state. Current state is deleted.`);
      return id;
    },

    /** A model as MLflow's JSON. @throws NOT_FOUND also for a deleted one, unless it is asked for */
    async json(id: string, allowDeleted = false): Promise<string> {
      const { rows } = await pool.query<{ model: string }>(
        `select ${MODEL}::text as model ${FROM} where m.id = $1 and (m.lifecycle_stage = 'active' or $2::boolean)`,
        [id, allowDeleted],
      );
      if (rows[0] === undefined) throw missing(id);
      return rows[0].model;
    },

    /** Says whether its files arrived. @throws NOT_FOUND */
    async finalize(id: string, status: LoggedModelStatus): Promise<void> {
      await requireActive(id);
      await pool.query('update logged_models set status = $2, updated_at = now() where id = $1', [id, status]);
    },

    /** Hides it. @throws NOT_FOUND */
    async remove(id: string): Promise<void> {
      await lifecycle(id);
      await pool.query(`update logged_models set lifecycle_stage = 'deleted', updated_at = now() where id = $1`, [id]);
    },

    /** Sets tags, or replaces them. @throws NOT_FOUND */
    async setTags(id: string, tags: Readonly<Record<string, string>>): Promise<void> {
      await requireActive(id);
      await pool.query('update logged_models set tags = tags || $2::jsonb, updated_at = now() where id = $1', [id, JSON.stringify(tags)]);
    },

    /** @throws NOT_FOUND also for a tag that is not there */
    async removeTag(id: string, key: string): Promise<void> {
      await requireActive(id);
      const { rowCount } = await pool.query('update logged_models set tags = tags - $2::text, updated_at = now() where id = $1 and tags ? $2::text', [id, key]);
      if (rowCount === 0) throw new MillraceError('NOT_FOUND', `No tag with key '${key}' found for model with ID '${id}'.`);
    },

    /** Adds parameters. @throws NOT_FOUND; INVALID_REQUEST for one that has another value */
    async addParams(id: string, params: Readonly<Record<string, string>>): Promise<void> {
      await requireActive(id);
      const { rowCount } = await pool.query(
        'update logged_models set params = params || $2::jsonb, updated_at = now() where id = $1 and $2::jsonb || params = params || $2::jsonb',
        [id, JSON.stringify(params)],
      );
      if (rowCount === 0)
        throw new MillraceError(
          'INVALID_REQUEST',
          `Changing param values is not allowed: one of ${Object.keys(params).join(', ')} was already logged with another value.`,
        );
    },

    /** Those that fit a filter of MLflow's language, each as MLflow's JSON, the newest first when no order is given. @throws INVALID_REQUEST */
    async search(
      input: OfProjects & {
        readonly experimentIds: readonly string[];
        readonly filter: string;
        /** Metric filters look at points on these alone; without a metric filter a model must have a point on one of them. */
        readonly datasets: readonly LoggedModelDataset[];
        readonly orderBy: readonly LoggedModelOrder[];
        readonly limit: number;
        readonly offset: number;
      },
    ): Promise<Paged<string>> {
      const parameters = sqlParameters();
      const experiments = await experimentsOf({ pool }, input.experimentIds, input);
      const filters = parseFilter(input.filter, LOGGED_MODEL_FILTERS);
      const onDatasets = (): string =>
        input.datasets.length === 0
          ? ''
          : ` and (${input.datasets
              .map(
                ({ name, digest }) =>
                  `p.dataset_name = ${parameters.add(name)}${digest === undefined ? '' : ` and p.dataset_digest = ${parameters.add(digest)}`}`,
              )
              .join(' or ')})`;
      const where = [
        `m.lifecycle_stage = 'active'`,
        `m.experiment_id = any(${parameters.add(experiments)}::integer[])`,
        ...filters.map(({ entity, key, operator, value }) => {
          if (entity === 'metric')
            return `exists (select from logged_model_metrics p where p.model_id = m.id and p.key = ${parameters.add(key)} and ${comparison('p.value', operator, value, parameters)} and p.value <> 'NaN'${onDatasets()})`;
          if (entity === 'attribute') return comparison(`(${ATTRIBUTES[key] ?? 'null'})`, operator, value, parameters);
          return comparison(`(m.${entity === 'param' ? 'params' : 'tags'} ->> ${parameters.add(key)}::text)`, operator, value, parameters);
        }),
        ...(input.datasets.length > 0 && !filters.some(({ entity }) => entity === 'metric')
          ? [`exists (select from logged_model_metrics p where p.model_id = m.id${onDatasets()})`]
          : []),
      ];
      const order = parseOrder(
        input.orderBy.map(({ field }) => field),
        LOGGED_MODEL_FILTERS,
      ).map(({ entity, key }, place) => {
        const { ascending, datasetName, datasetDigest } = input.orderBy[place] ?? { ascending: true };
        const direction = ascending ? 'asc' : 'desc';
        if (entity === 'attribute') return `(${ATTRIBUTES[key] ?? 'null'}) ${direction} nulls last`;
        if (entity !== 'metric') throw new MillraceError('INVALID_REQUEST', `Invalid order by field name: ${entity}s.${key}. Only metrics are supported.`);
        return `(select p.value from logged_model_metrics p where p.model_id = m.id and p.key = ${parameters.add(key)}${
          datasetName === undefined ? '' : ` and p.dataset_name = ${parameters.add(datasetName)}`
        }${datasetDigest === undefined ? '' : ` and p.dataset_digest = ${parameters.add(datasetDigest)}`} order by p.at desc, p.step desc, p.run_id limit 1) ${direction} nulls last`;
      });
      const { rows } = await pool.query<{ model: string }>(
        `select ${MODEL}::text as model ${FROM} where ${where.join(' and ')}
         order by ${[...order, 'm.created_at desc', 'm.id'].join(', ')} limit ${parameters.add(input.limit + 1)} offset ${parameters.add(input.offset)}`,
        [...parameters.values],
      );
      const items = rows.map(({ model }) => model);
      return { items: items.slice(0, input.limit), nextOffset: items.length > input.limit ? input.offset + input.limit : null };
    },
  };
}
export type LoggedModelsStore = ReturnType<typeof createLoggedModelsStore>;
