import type { FilterClause, FilterLanguage, OrderClause } from '../../contracts/mlflow-filter.ts';
import type { RegistryAttribute, RegistryCondition, RegistryOrder } from '../../store/registry.ts';
import { MlflowError } from './errors.ts';

/** What MLflow lets one ask of models and versions, and of their order. */
export interface RegistryLanguage {
  readonly filter: FilterLanguage;
  readonly order: FilterLanguage;
  readonly columns: Readonly<Record<string, RegistryAttribute>>;
}

const ATTRIBUTE = ['attribute', 'attributes'];
const TAG = ['tags', 'tag'];
const instants = { creation_timestamp: { type: 'number' }, last_updated_timestamp: { type: 'number', aliases: ['timestamp'] } } as const;
const COLUMNS = { name: 'name', creation_timestamp: 'createdAt', last_updated_timestamp: 'updatedAt' } as const;

export const MODEL_LANGUAGE: RegistryLanguage = {
  filter: { entities: { attribute: ATTRIBUTE, tag: TAG }, attributes: { name: { type: 'text', lists: true } } },
  order: { entities: { attribute: ATTRIBUTE }, attributes: { name: { type: 'text' }, ...instants } },
  columns: COLUMNS,
};
export const VERSION_LANGUAGE: RegistryLanguage = {
  filter: {
    entities: { attribute: ATTRIBUTE, tag: TAG },
    attributes: {
      name: { type: 'text', lists: true },
      run_id: { type: 'text', lists: true },
      source_path: { type: 'text' },
      version_number: { type: 'number' },
    },
  },
  order: { entities: { attribute: ATTRIBUTE }, attributes: { name: { type: 'text' }, version_number: { type: 'number' }, ...instants } },
  columns: { ...COLUMNS, version_number: 'version', run_id: 'runId', source_path: 'source' },
};

const PROMPT_TAG = 'mlflow.prompt.is_prompt';
const NOTHING: RegistryCondition = { of: { attribute: 'name' }, comparator: 'IN', value: [] };
/** What Postgres keeps a version's number in. */
const MOST_NUMBER = 2 ** 31 - 1;

const columnOf = ({ columns }: RegistryLanguage, key: string): RegistryAttribute => {
  const column = columns[key];
  if (column === undefined) throw new MlflowError('INVALID_PARAMETER_VALUE', `Invalid attribute key '${key}' specified.`);
  return column;
};

export function conditionsOf(clauses: readonly FilterClause[], language: RegistryLanguage): readonly RegistryCondition[] {
  return clauses.flatMap(({ entity, key, operator, value }): readonly RegistryCondition[] => {
    // the client asks for what is no prompt; there are none here
    if (entity === 'tag' && key === PROMPT_TAG) return (operator === '=') === (value === 'true') ? [NOTHING] : [];
    if (value === null || operator === 'IS NULL' || operator === 'IS NOT NULL')
      throw new MlflowError('INVALID_PARAMETER_VALUE', 'IS NULL / IS NOT NULL is not supported in the registry.');
    if (typeof value === 'number' && (!Number.isInteger(value) || Math.abs(value) > MOST_NUMBER))
      throw new MlflowError('INVALID_PARAMETER_VALUE', `Invalid value for numeric attribute '${key}': ${value}`);
    if (JSON.stringify([key, value]).includes('\\u0000')) throw new MlflowError('INVALID_PARAMETER_VALUE', 'A filter cannot hold the character NUL.');
    return [{ of: entity === 'tag' ? { tag: key } : { attribute: columnOf(language, key) }, comparator: operator, value }];
  });
}

/** The order that was asked for, with `ties` behind it. */
export function orderOf(clauses: readonly OrderClause[], language: RegistryLanguage, ties: readonly RegistryOrder[]): readonly RegistryOrder[] {
  const order = clauses.map(({ key, ascending }) => ({ by: columnOf(language, key), descending: !ascending }));
  return [...order, ...ties.filter(({ by }) => !order.some((one) => one.by === by))];
}

/** Where a page begins. @throws MlflowError INVALID_PARAMETER_VALUE */
export function offsetOf(token: string | undefined): number {
  if (token === undefined || token === '') return 0;
  let offset: unknown;
  try {
    offset = (JSON.parse(Buffer.from(token, 'base64').toString('utf8')) as { readonly offset?: unknown } | null)?.offset;
  } catch {
    throw new MlflowError('INVALID_PARAMETER_VALUE', 'Invalid page token, could not base64-decode');
  }
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 0)
    throw new MlflowError('INVALID_PARAMETER_VALUE', 'Invalid page token, it names no offset');
  return offset;
}

export const pageToken = (offset: number): string => Buffer.from(JSON.stringify({ offset })).toString('base64');
