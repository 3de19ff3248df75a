import { sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { EXPERIMENT_FILTERS, parseFilter, parseOrder } from '../contracts/mlflow-filter.ts';
import { writeAudit } from './audit.ts';
import type { Database } from './database.ts';
import { comparison, sqlParameters } from './mlflow-filter-sql.ts';
import { likePatterns, type OfProjects } from './project-names.ts';

/**
 * Experiments: what MLflow's clients group runs by. A pipeline is one too, with all its runs.
 *
 * Invariants:
 * 1. A name stands for one experiment, also while that is deleted.
 * 2. Deleting hides an experiment and its runs; restoring brings both back. Nothing is removed.
 * 3. An experiment whose pipeline has a run under way is not deleted.
 */
export interface ExperimentRecord {
  readonly id: string;
  readonly name: string;
  /** Where files of its runs go: a URI. */
  readonly artifactLocation: string;
  readonly lifecycleStage: 'active' | 'deleted';
  /** The pipeline whose runs it holds; null for those that clients made. */
  readonly pipeline: string | null;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly tags: Readonly<Record<string, string>>;
}

export type ViewType = 'active' | 'deleted' | 'all';

/** Of a page: what to go on from; null at the end. */
export interface Paged<Item> {
  readonly items: readonly Item[];
  /** Items that stand before the next page; null when there is none. */
  readonly nextOffset: number | null;
}

/** This server's own place for the files of an experiment. */
export const EXPERIMENT_ROOT_SQL = `coalesce(e.artifact_location, 'mlflow-artifacts:/' || e.id)`;
export const millisecondsSql = (column: string): string => `(date_part('epoch', ${column}) * 1000)::bigint`;

const COLUMNS = `e.id::text as id, e.name, ${EXPERIMENT_ROOT_SQL} as "artifactLocation", e.lifecycle_stage as "lifecycleStage", e.pipeline,
  ${millisecondsSql('e.created_at')}::double precision as "createdAtMs", ${millisecondsSql('e.updated_at')}::double precision as "updatedAtMs", e.tags`;
const ATTRIBUTES: Readonly<Record<string, string>> = {
  name: 'e.name',
  experiment_id: 'e.id::text',
  creation_time: millisecondsSql('e.created_at'),
  last_update_time: millisecondsSql('e.updated_at'),
};
const ORDER: Readonly<Record<string, string>> = { ...ATTRIBUTES, name: 'e.name collate "C"', experiment_id: 'e.id' };
const UNIQUE_VIOLATION = '23505';

/** The number of an experiment; null for a text that is none, of which there is surely no experiment. */
export function experimentNumber(id: string): number | null {
  return /^\d{1,9}$/.test(id) ? Number(id) : null;
}

/** What an experiment is called where projects are told apart: after its pipeline, if it has one. */
const PROJECT_NAME_SQL = 'coalesce(e.pipeline, e.name)';

/** The numbers of those experiments that are there and are of the projects; without projects of all that could be there. */
export async function experimentsOf({ pool }: Pick<Database, 'pool'>, ids: readonly string[], { projects }: OfProjects): Promise<readonly number[]> {
  const numbers = ids.flatMap((id) => experimentNumber(id) ?? []);
  if (projects === undefined || numbers.length === 0) return numbers;
  const { rows } = await pool.query<{ id: number }>({
    name: 'experiments_of_projects',
    text: `select e.id from experiments e where e.id = any($1::integer[]) and ${PROJECT_NAME_SQL} like any($2::text[])`,
    values: [numbers, likePatterns(projects)],
  });
  return rows.map(({ id }) => id);
}

const missing = (id: string): MillraceError => new MillraceError('NOT_FOUND', `No Experiment with id=${id} exists`);

export function createExperimentsStore({ pool, orm }: Database) {
  const find = async (id: string): Promise<ExperimentRecord | null> => {
    const number = experimentNumber(id);
    if (number === null) return null;
    const { rows } = await pool.query<ExperimentRecord>({
      name: 'experiment_find',
      text: `select ${COLUMNS} from experiments e where e.id = $1`,
      values: [number],
    });
    return rows[0] ?? null;
  };
  const get = async (id: string): Promise<ExperimentRecord> => {
    const found = await find(id);
    if (found === null) throw missing(id);
    return found;
  };
  const requireActive = async (id: string): Promise<void> => {
    if ((await get(id)).lifecycleStage !== 'active')
      throw new MillraceError('INVALID_REQUEST', `The experiment ${id} must be in the 'active' state. Current state is deleted.`);
  };
  const findByName = async (name: string): Promise<ExperimentRecord | null> => {
    const { rows } = await pool.query<ExperimentRecord>({
      name: 'experiment_by_name',
      text: `select ${COLUMNS} from experiments e where e.name = $1`,
      values: [name],
    });
    return rows[0] ?? null;
  };
  const nameTaken = async (name: string): Promise<MillraceError> => {
    const other = await findByName(name);
    return new MillraceError(
      'CONFLICT',
      other?.lifecycleStage === 'deleted'
        ? `Experiment '${name}' already exists in deleted state. You can restore the experiment, or permanently delete the experiment from the .trash folder (under tracking server's root folder) in order to use this experiment name again.`
        : `Experiment(name=${name}) already exists.`,
    );
  };
  return {
    get,
    findByName,

    /** Makes an experiment and answers with its id. @throws CONFLICT when the name is taken, also by a deleted one. */
    async create(input: { readonly name: string; readonly artifactLocation?: string; readonly tags: Readonly<Record<string, string>> }): Promise<string> {
      const { rows } = await pool.query<{ id: string }>(
        `insert into experiments (name, artifact_location, tags) values ($1, $2, $3) on conflict (name) do nothing returning id::text`,
        [input.name, input.artifactLocation ?? null, JSON.stringify(input.tags)],
      );
      const [made] = rows;
      if (made === undefined) throw await nameTaken(input.name);
      return made.id;
    },

    /** Gives it another name; a pipeline's experiment keeps its pipeline. @throws NOT_FOUND, CONFLICT, INVALID_REQUEST for a deleted one */
    async rename(id: string, name: string): Promise<void> {
      await requireActive(id);
      try {
        await pool.query('update experiments set name = $2, updated_at = now() where id = $1', [experimentNumber(id), name]);
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION) throw await nameTaken(name);
        throw error;
      }
    },

    /** Hides it with its runs. @throws NOT_FOUND, INVALID_REQUEST while a run of its pipeline is under way */
    async remove(id: string): Promise<void> {
      await requireActive(id);
      const { rows } = await pool.query<{ workflows: number }>(
        `select count(*)::int as workflows from runs where experiment_id = $1 and workflow_id is not null and status in ('waiting', 'running')`,
        [experimentNumber(id)],
      );
      if ((rows[0]?.workflows ?? 0) > 0)
        throw new MillraceError(
          'INVALID_REQUEST',
          `Experiment ${id} belongs to a pipeline of which ${rows[0]?.workflows ?? 0} runs are under way: cancel them first (millrace runs cancel).`,
        );
      await orm.transaction(async (tx) => {
        await tx.execute(sql`
          with gone as (update experiments set lifecycle_stage = 'deleted', updated_at = now() where id = ${experimentNumber(id)} returning id)
          update runs set lifecycle_stage = 'deleted' from gone where experiment_id = gone.id`);
        await writeAudit(tx, { action: 'experiment.delete', subject: `experiments/${id}` });
      });
    },

    /** Brings it back with its runs. @throws NOT_FOUND, INVALID_REQUEST for one that is not deleted */
    async restore(id: string): Promise<void> {
      const found = await get(id);
      if (found.lifecycleStage !== 'deleted')
        throw new MillraceError('INVALID_REQUEST', `The experiment ${id} must be in the 'deleted' state. Current state is active.`);
      await orm.transaction(async (tx) => {
        await tx.execute(sql`
          with back as (update experiments set lifecycle_stage = 'active', updated_at = now() where id = ${experimentNumber(id)} returning id)
          update runs set lifecycle_stage = 'active' from back where experiment_id = back.id`);
        await writeAudit(tx, { action: 'experiment.restore', subject: `experiments/${id}` });
      });
    },

    /** Sets a tag, or replaces it. @throws NOT_FOUND, INVALID_REQUEST */
    async setTag(id: string, key: string, value: string): Promise<void> {
      await requireActive(id);
      await pool.query('update experiments set tags = tags || jsonb_build_object($2::text, $3::text), updated_at = now() where id = $1', [
        experimentNumber(id),
        key,
        value,
      ]);
    },

    /** @throws NOT_FOUND also for a tag that is not there */
    async removeTag(id: string, key: string): Promise<void> {
      await requireActive(id);
      const { rowCount } = await pool.query('update experiments set tags = tags - $2::text, updated_at = now() where id = $1 and tags ? $2::text', [
        experimentNumber(id),
        key,
      ]);
      if (rowCount === 0) throw new MillraceError('NOT_FOUND', `No tag with name: ${key} in experiment with id ${id}`);
    },

    /** Those that fit a filter of MLflow's language; the newest first when no order is given. @throws INVALID_REQUEST */
    async search(
      input: OfProjects & {
        readonly filter: string;
        readonly orderBy: readonly string[];
        readonly view: ViewType;
        readonly limit: number;
        readonly offset: number;
      },
    ): Promise<Paged<ExperimentRecord>> {
      const parameters = sqlParameters();
      const where = [
        ...(input.projects === undefined ? [] : [`${PROJECT_NAME_SQL} like any(${parameters.add(likePatterns(input.projects))}::text[])`]),
        ...(input.view === 'all' ? [] : [`e.lifecycle_stage = ${parameters.add(input.view)}`]),
        ...parseFilter(input.filter, EXPERIMENT_FILTERS).map(({ entity, key, operator, value }) => {
          const column = entity === 'tag' ? `(e.tags ->> ${parameters.add(key)}::text)` : (ATTRIBUTES[key] ?? 'null');
          return comparison(column, operator, value, parameters);
        }),
      ];
      const order = parseOrder(input.orderBy.length === 0 ? ['creation_time DESC', 'experiment_id ASC'] : input.orderBy, EXPERIMENT_FILTERS).map(
        ({ entity, key, ascending }) => {
          if (entity !== 'attribute') throw new MillraceError('INVALID_REQUEST', `Invalid order_by entity: ${entity}`);
          return `${ORDER[key] ?? 'null'} ${ascending ? 'asc' : 'desc'}`;
        },
      );
      const { rows } = await pool.query<ExperimentRecord>(
        `select ${COLUMNS} from experiments e ${where.length === 0 ? '' : `where ${where.join(' and ')}`}
         order by ${order.join(', ')}, e.id limit ${parameters.add(input.limit + 1)} offset ${parameters.add(input.offset)}`,
        [...parameters.values],
      );
      return { items: rows.slice(0, input.limit), nextOffset: rows.length > input.limit ? input.offset + input.limit : null };
    },
  };
}
export type ExperimentsStore = ReturnType<typeof createExperimentsStore>;
