import { and, desc, eq, gte, inArray, lt, type SQL, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { type FilterClause, parseFilter, RUN_FILTERS } from '../contracts/mlflow-filter.ts';
import { columnName, type RunColumn, type RunCondition, type RunField } from '../contracts/run-search.ts';
import type { Database } from './database.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import type { RunRecord } from './runs.ts';
import { runs, type RunStatus } from './schema.ts';

export interface SearchRunsInput extends OfProjects {
  readonly pipeline?: string;
  readonly status?: readonly RunStatus[];
  /** UTC ISO: runs that were made then or later. */
  readonly since?: string;
  /** UTC ISO: runs that were made before. */
  readonly until?: string;
  /** All of them hold. */
  readonly where?: readonly RunCondition[];
  /** In MLflow's filter language, with Millrace's words for a status. */
  readonly filter?: string;
  /** Runs without a value come last. Default: the newest first. */
  readonly order?: { readonly column: RunColumn; readonly descending: boolean };
  /** What is to be read beside the records. */
  readonly columns?: readonly RunColumn[];
  /** Default 50, at most 1,000. */
  readonly limit?: number;
}

export interface FoundRun {
  readonly run: RunRecord;
  /** By the names of the columns that were asked for; null where the run has none. */
  readonly values: Readonly<Record<string, string | number | null>>;
}

const NUMBER = '^[-+]?[0-9]+[.]?[0-9]*([eE][-+]?[0-9]+)?$';
const SIGNS = { '<=': sql`<=`, '>=': sql`>=`, '!=': sql`<>`, '=': sql`=`, '<': sql`<`, '>': sql`>` } as const;

/** What a run was started with, or has logged. */
const param = (key: string): SQL =>
  sql`coalesce((select p.value from run_params p where p.run_id = ${runs.id} and p.key = ${key}), ${runs.params} #>> string_to_array(${key}, '.'))`;
const tag = (key: string): SQL => sql`(select t.value from run_tags t where t.run_id = ${runs.id} and t.key = ${key})`;
/** The last point of a metric, as `STAGE/KEY` or by its key alone; `auc` also stands for the test's. */
const metric = (key: string): SQL =>
  sql`(select m.value from latest_metrics m where m.run_id = ${runs.id} and (m.name = ${key} or m.key in (${key}, ${`test.${key}`})) order by m.name = ${key} desc, m.key = ${key} desc, m.at desc limit 1)`;

/** Fields that are columns of the table, or are computed from them. */
const FIELDS: Readonly<Record<RunField, SQL>> = {
  run: sql`${runs.id}`,
  pipeline: sql`${runs.pipeline}`,
  status: sql`${runs.status}`,
  created: sql`${runs.createdAt}`,
  started: sql`${runs.startedAt}`,
  ended: sql`${runs.endedAt}`,
  took: sql`extract(epoch from coalesce(${runs.endedAt}, now()) - ${runs.startedAt})::double precision`,
  trigger: sql`${runs.trigger} ->> 'kind'`,
  reason: sql`${runs.trigger} ->> 'reason'`,
  workflow: sql`${runs.workflowId}`,
  commit: sql`${runs.gitCommit}`,
  build: sql`${runs.buildId}`,
  cpu: sql`(select sum(s.cpu_seconds) from stages s where s.run_id = ${runs.id})`,
  cost: sql`(select sum(s.cost) from stages s where s.run_id = ${runs.id})`,
  versions: sql`(select string_agg(v.model || ' ' || v.version, ', ' order by v.created_at) from versions v where v.run_id = ${runs.id})`,
};

/** A run of a client's is of its experiment. */
const PROJECT_NAME = sql`coalesce(nullif(${runs.pipeline}, ''), (select coalesce(e.pipeline, e.name) from experiments e where e.id = ${runs.experimentId}))`;

const valueOf = ({ of, key }: RunColumn): SQL => (of === 'run' ? FIELDS[key] : of === 'param' ? param(key) : of === 'tag' ? tag(key) : metric(key));

/** A text that is a number is compared as one with a number. */
function holds({ column, is, value }: RunCondition): SQL {
  const found = valueOf(column);
  if (is === '~') return sql`position(lower(${value}) in lower(${found}::text)) > 0`;
  const sign = SIGNS[is];
  const isNumber = /^[-+]?\d+\.?\d*(?:e[-+]?\d+)?$/i.test(value);
  if (column.of === 'metric') return sql`${found} ${sign} ${value}::double precision`;
  if (isNumber) return sql`(case when ${found} ~ ${NUMBER} then ${found}::double precision end) ${sign} ${value}::double precision`;
  return sql`${found} ${sign} ${value}`;
}

/** What a clause of the filter language compares. Times are milliseconds since 1970, as MLflow has them. */
function filtered({ entity, key }: FilterClause): SQL {
  if (entity === 'metric') return metric(key);
  if (entity === 'param') return param(key);
  if (entity === 'tag') return tag(key);
  if (entity === 'attribute' && Object.hasOwn(ATTRIBUTES, key)) return ATTRIBUTES[key as keyof typeof ATTRIBUTES];
  throw new MillraceError('INVALID_REQUEST', `Runs are not listed by ${entity} ${key}.`, {
    fix: `Use metrics, params, tags, or one of ${Object.keys(ATTRIBUTES).join(', ')}.`,
  });
}

const ATTRIBUTES = {
  run_id: sql`${runs.id}`,
  run_name: sql`coalesce(${runs.name}, ${runs.workflowId})`,
  status: sql`${runs.status}`,
  start_time: sql`extract(epoch from coalesce(${runs.startedAt}, ${runs.createdAt})) * 1000`,
  end_time: sql`extract(epoch from ${runs.endedAt}) * 1000`,
} as const;

function clauseHolds(clause: FilterClause): SQL {
  const { operator, value } = clause;
  const found = filtered(clause);
  switch (operator) {
    case 'IS NULL':
      return sql`${found} is null`;
    case 'IS NOT NULL':
      return sql`${found} is not null`;
    case 'IN':
      return sql`${found} = any(${sql.param(value)}::text[])`;
    case 'NOT IN':
      return sql`${found} <> all(${sql.param(value)}::text[])`;
    case 'LIKE':
      // without an escape character every pattern is a valid one
      return sql`${found} like ${value} escape ''`;
    case 'ILIKE':
      return sql`${found} ilike ${value} escape ''`;
    default:
      return typeof value === 'number' ? sql`${found} ${SIGNS[operator]} ${value}::double precision` : sql`${found} ${SIGNS[operator]} ${value}`;
  }
}

export function createRunSearch({ orm }: Database) {
  return {
    /** Runs that fit, with the values that are asked for. @throws INVALID_REQUEST for a filter that does not fit */
    async search(input: SearchRunsInput): Promise<readonly FoundRun[]> {
      const columns = input.columns ?? [];
      const { order } = input;
      const by = order === undefined ? undefined : valueOf(order.column);
      const ordered = by === undefined ? desc(runs.seq) : order?.descending === true ? sql`${by} desc nulls last` : sql`${by} asc nulls last`;
      const rows = await orm
        .select({ run: runs, values: sql<readonly (string | number | null)[]>`jsonb_build_array(${sql.join(columns.map(shown), sql`, `)})` })
        .from(runs)
        .where(
          and(
            eq(runs.lifecycleStage, 'active'),
            isOfProjects(PROJECT_NAME, input),
            input.pipeline === undefined ? undefined : eq(runs.pipeline, input.pipeline),
            input.status === undefined ? undefined : inArray(runs.status, [...input.status]),
            input.since === undefined ? undefined : gte(runs.createdAt, input.since),
            input.until === undefined ? undefined : lt(runs.createdAt, input.until),
            ...(input.where ?? []).map(holds),
            ...(input.filter === undefined ? [] : parseFilter(input.filter, RUN_FILTERS).map(clauseHolds)),
          ),
        )
        .orderBy(ordered, desc(runs.seq))
        .limit(Math.min(input.limit ?? 50, 1_000));
      return rows.map(({ run, values }) => ({ run, values: Object.fromEntries(columns.map((column, i) => [columnName(column), values[i] ?? null])) }));
    },
  };
}
export type RunSearch = ReturnType<typeof createRunSearch>;

/** JSON has no NaN and no infinity: they are shown as texts. */
const shown = (column: RunColumn): SQL => {
  const value = valueOf(column);
  return column.of === 'metric'
    ? sql`case when ${value} in ('NaN', 'Infinity', '-Infinity') then to_jsonb(${value}::text) else to_jsonb(${value}) end`
    : sql`to_jsonb(${value})`;
};
