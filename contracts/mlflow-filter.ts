import { MillraceError } from './errors.ts';

/**
 * MLflow's filter and order language, for runs, experiments, logged models, registered models and versions alike.
 *
 *     filter     = clause { AND clause }
 *     clause     = identifier ( = | != | < | <= | > | >= | LIKE | ILIKE ) value
 *                | identifier [ NOT ] IN ( 'text' { , 'text' } )
 *                | identifier IS [ NOT ] NULL
 *     identifier = [ entity . ] key          quoted by ` or " where the key is no plain word
 *     value      = number | 'text' | "text"  a quote inside is written twice
 *     order      = identifier [ ASC | DESC ]
 *
 * Invariants:
 * 1. Reading is linear in the text's length; a text that does not fit is refused with INVALID_REQUEST and nothing else.
 * 2. What comes out holds keys and values as data: nothing of the text is ever part of a statement.
 */
export type FilterEntity = 'attribute' | 'metric' | 'param' | 'tag' | 'dataset';
export type FilterOperator = '=' | '!=' | '<' | '<=' | '>' | '>=' | 'LIKE' | 'ILIKE' | 'IN' | 'NOT IN' | 'IS NULL' | 'IS NOT NULL';

export interface FilterClause {
  readonly entity: FilterEntity;
  /** Of an attribute: its one name, whichever alias was written. */
  readonly key: string;
  readonly operator: FilterOperator;
  /** A list for IN and NOT IN; null for IS NULL and IS NOT NULL. */
  readonly value: string | number | readonly string[] | null;
}

export interface OrderClause {
  readonly entity: FilterEntity;
  readonly key: string;
  readonly ascending: boolean;
}

export interface FilterAttribute {
  readonly type: 'text' | 'number';
  /** Other names that it may be called by. */
  readonly aliases?: readonly string[];
  /** Whether IN and NOT IN are understood. Default false. */
  readonly lists?: boolean;
}

/** What may be asked of one kind of thing. */
export interface FilterLanguage {
  /** What the entities may be called, the usual name first. */
  readonly entities: Readonly<Partial<Record<FilterEntity, readonly string[]>>>;
  readonly attributes: Readonly<Record<string, FilterAttribute>>;
  /** Whether tags and parameters can be asked for their absence. Default false. */
  readonly nulls?: boolean;
}

const ATTRIBUTE = ['attributes', 'attribute', 'attr', 'run'];
const METRIC = ['metrics', 'metric'];
const PARAM = ['params', 'param', 'parameters', 'parameter'];
const TAG = ['tags', 'tag'];

export const RUN_FILTERS: FilterLanguage = {
  entities: { attribute: ATTRIBUTE, metric: METRIC, param: PARAM, tag: TAG, dataset: ['datasets', 'dataset'] },
  attributes: {
    run_id: { type: 'text', lists: true },
    run_name: { type: 'text', aliases: ['run name', 'Run name', 'Run Name'] },
    status: { type: 'text' },
    user_id: { type: 'text' },
    artifact_uri: { type: 'text' },
    start_time: { type: 'number', aliases: ['created', 'Created'] },
    end_time: { type: 'number' },
  },
  nulls: true,
};

export const EXPERIMENT_FILTERS: FilterLanguage = {
  entities: { attribute: ATTRIBUTE, tag: TAG },
  attributes: {
    name: { type: 'text' },
    experiment_id: { type: 'text', lists: true },
    creation_time: { type: 'number' },
    last_update_time: { type: 'number' },
  },
  nulls: true,
};

export const LOGGED_MODEL_FILTERS: FilterLanguage = {
  entities: { attribute: ATTRIBUTE, metric: METRIC, param: PARAM, tag: TAG },
  attributes: {
    name: { type: 'text', lists: true },
    model_id: { type: 'text', lists: true },
    model_type: { type: 'text', lists: true },
    status: { type: 'text', lists: true },
    source_run_id: { type: 'text', lists: true },
    creation_timestamp: { type: 'number', aliases: ['creation_time', 'creation_timestamp_ms'] },
    last_updated_timestamp: { type: 'number', aliases: ['last_updated_timestamp_ms'] },
  },
};

const DATASET_KEYS = new Set(['name', 'digest', 'context']);
const MAX_LENGTH = 50_000;
const MAX_CLAUSES = 100;
const COMPARATORS = ['<=', '>=', '!=', '=', '<', '>'] as const;
const NUMBER_OPERATORS: ReadonlySet<FilterOperator> = new Set(COMPARATORS);
const TEXT_OPERATORS: ReadonlySet<FilterOperator> = new Set(['=', '!=', 'LIKE', 'ILIKE']);

const invalid = (message: string): MillraceError => new MillraceError('INVALID_REQUEST', message);
const shown = (text: string): string => (text.length > 80 ? `${text.slice(0, 80)}…` : text);

/** A place in a text, and what may be read from there. Sticky expressions: each character is looked at once. */
class Cursor {
  readonly #text: string;
  #at = 0;
  constructor(text: string) {
    this.#text = text;
  }

  get rest(): string {
    return shown(this.#text.slice(this.#at));
  }

  get atEnd(): boolean {
    this.#take(/\s*/y);
    return this.#at === this.#text.length;
  }

  #take(expression: RegExp): string | undefined {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  /** A keyword, whatever its case, that is no part of a longer word. */
  keyword(word: string): boolean {
    this.#take(/\s*/y);
    const end = this.#at + word.length;
    const next = this.#text[end];
    if (this.#text.slice(this.#at, end).toUpperCase() !== word || (next !== undefined && /[\w.]/.test(next))) return false;
    this.#at = end;
    return true;
  }

  punctuation<T extends string>(...symbols: readonly T[]): T | undefined {
    this.#take(/\s*/y);
    const symbol = symbols.find((one) => this.#text.startsWith(one, this.#at));
    if (symbol !== undefined) this.#at += symbol.length;
    return symbol;
  }

  /** A text in the quotes that stand here, if they are among `quotes`; twice a quote is one. */
  quoted(quotes: string): string | undefined {
    this.#take(/\s*/y);
    const quote = this.#text[this.#at];
    if (quote === undefined || !quotes.includes(quote)) return undefined;
    let value = '';
    for (let from = this.#at + 1; ; ) {
      const end = this.#text.indexOf(quote, from);
      if (end < 0) throw invalid(`A text in ${quote} is not closed: ${this.rest}`);
      value += this.#text.slice(from, end);
      if (this.#text[end + 1] !== quote) {
        this.#at = end + 1;
        return value;
      }
      value += quote;
      from = end + 2;
    }
  }

  number(): number | undefined {
    this.#take(/\s*/y);
    const text = this.#take(/[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])/y);
    return text === undefined ? undefined : Number(text);
  }

  /** The part of a name before the point. */
  word(): string | undefined {
    this.#take(/\s*/y);
    return this.#take(/[\p{L}\p{N}_]+/uy);
  }

  /** A key that stands without quotes: whatever MLflow allows in one, but for the space. */
  plainKey(): string | undefined {
    return this.#take(/[\p{L}\p{N}_./:-]+/uy);
  }
}

function readIdentifier(cursor: Cursor, language: FilterLanguage): { readonly entity: FilterEntity; readonly key: string } {
  const before = cursor.rest;
  const first = cursor.quoted('`"') ?? cursor.word();
  if (first === undefined) throw invalid(before === '' ? 'A name is missing at the end.' : `A name was expected here: ${before}`);
  let entity: FilterEntity = 'attribute';
  let key = first;
  if (cursor.punctuation('.') !== undefined) {
    const named = (Object.entries(language.entities) as [FilterEntity, readonly string[]][]).find(([, names]) => names.includes(first));
    if (named === undefined)
      throw invalid(
        `Invalid entity type '${shown(first)}'. Valid values are ${Object.values(language.entities)
          .map(([name]) => `'${name ?? ''}'`)
          .join(', ')}.`,
      );
    entity = named[0];
    const written = cursor.quoted('`"') ?? cursor.plainKey();
    if (written === undefined) throw invalid(`A key was expected after '${first}.': ${cursor.rest}`);
    key = written;
  }
  if (entity === 'attribute') {
    const found = Object.entries(language.attributes).find(([name, { aliases }]) => name === key || aliases?.includes(key) === true);
    if (found === undefined)
      throw invalid(
        `Invalid attribute key '${shown(key)}' specified. Valid keys are ${Object.keys(language.attributes)
          .map((name) => `'${name}'`)
          .join(', ')}.`,
      );
    return { entity, key: found[0] };
  }
  if (entity === 'dataset' && !DATASET_KEYS.has(key))
    throw invalid(`Invalid dataset key '${shown(key)}' specified. Valid keys are 'name', 'digest', 'context'.`);
  return { entity, key };
}

function readOperator(cursor: Cursor): FilterOperator {
  const comparator = cursor.punctuation(...COMPARATORS);
  if (comparator !== undefined) return comparator;
  for (const word of ['LIKE', 'ILIKE', 'IN'] as const) if (cursor.keyword(word)) return word;
  if (cursor.keyword('NOT')) {
    if (cursor.keyword('IN')) return 'NOT IN';
    throw invalid(`NOT must be followed by IN: ${cursor.rest}`);
  }
  if (cursor.keyword('IS')) {
    const negated = cursor.keyword('NOT');
    if (cursor.keyword('NULL')) return negated ? 'IS NOT NULL' : 'IS NULL';
    throw invalid(`IS must be followed by NULL or NOT NULL: ${cursor.rest}`);
  }
  throw invalid(`Invalid clause in filter string: a comparison was expected here: ${cursor.rest}`);
}

function readList(cursor: Cursor): readonly string[] {
  if (cursor.punctuation('(') === undefined) throw invalid(`A list of quoted texts in parentheses was expected: ${cursor.rest}`);
  const items: string[] = [];
  do {
    // A comma may stand after the last one, as in Python.
    if (items.length > 0 && cursor.punctuation(')') !== undefined) return items;
    const item = cursor.quoted(`'"`);
    if (item === undefined) throw invalid(`While parsing a list in the query, expected a non-empty list of string values: ${cursor.rest}`);
    items.push(item);
  } while (cursor.punctuation(',') !== undefined);
  if (cursor.punctuation(')') === undefined) throw invalid(`A list is not closed: ${cursor.rest}`);
  return items;
}

function operatorsOf(entity: FilterEntity, key: string, language: FilterLanguage): ReadonlySet<FilterOperator> {
  if (entity === 'metric') return NUMBER_OPERATORS;
  const attribute = entity === 'attribute' ? language.attributes[key] : undefined;
  if (attribute?.type === 'number') return NUMBER_OPERATORS;
  const lists = entity === 'dataset' || attribute?.lists === true;
  const nulls = (entity === 'tag' || entity === 'param') && language.nulls === true;
  return new Set<FilterOperator>([...TEXT_OPERATORS, ...(lists ? (['IN', 'NOT IN'] as const) : []), ...(nulls ? (['IS NULL', 'IS NOT NULL'] as const) : [])]);
}

function readClause(cursor: Cursor, language: FilterLanguage): FilterClause {
  const { entity, key } = readIdentifier(cursor, language);
  const operator = readOperator(cursor);
  const operators = operatorsOf(entity, key, language);
  if (!operators.has(operator)) throw invalid(`Invalid comparator '${operator}' for ${entity} '${shown(key)}': not one of ${[...operators].join(', ')}.`);
  if (operator === 'IS NULL' || operator === 'IS NOT NULL') return { entity, key, operator, value: null };
  if (operator === 'IN' || operator === 'NOT IN') return { entity, key, operator, value: readList(cursor) };
  if (operators === NUMBER_OPERATORS) {
    const value = cursor.number();
    if (value === undefined) throw invalid(`Expected numeric value type for ${entity} '${shown(key)}'. Found ${cursor.rest}`);
    return { entity, key, operator, value };
  }
  const value = cursor.quoted(`'"`);
  if (value === undefined) throw invalid(`Expected a quoted string value for ${entity} '${shown(key)}' (e.g. 'my-value'). Got value ${cursor.rest}`);
  return { entity, key, operator, value };
}

/** The clauses of a filter, all of which must hold; none for an empty text. @throws INVALID_REQUEST */
export function parseFilter(text: string, language: FilterLanguage): readonly FilterClause[] {
  if (text.length > MAX_LENGTH) throw invalid(`A filter may have at most ${MAX_LENGTH} characters.`);
  const cursor = new Cursor(text);
  const clauses: FilterClause[] = [];
  while (!cursor.atEnd) {
    if (clauses.length > 0 && !cursor.keyword('AND')) throw invalid(`Invalid clause(s) in filter string: '${cursor.rest}'. Clauses are joined by AND.`);
    if (clauses.length === MAX_CLAUSES) throw invalid(`A filter may have at most ${MAX_CLAUSES} clauses.`);
    clauses.push(readClause(cursor, language));
  }
  return clauses;
}

/** What to order by, first the strongest. @throws INVALID_REQUEST also for a field that stands there twice. */
export function parseOrder(texts: readonly string[], language: FilterLanguage): readonly OrderClause[] {
  const clauses: OrderClause[] = [];
  for (const text of texts) {
    if (text.length > MAX_LENGTH) throw invalid(`An order may have at most ${MAX_LENGTH} characters.`);
    const cursor = new Cursor(text);
    const { entity, key } = readIdentifier(cursor, language);
    const ascending = !cursor.keyword('DESC');
    if (ascending) cursor.keyword('ASC');
    if (!cursor.atEnd) throw invalid(`Invalid order_by clause '${shown(text)}': ${cursor.rest} was not expected.`);
    if (entity === 'dataset') throw invalid(`Invalid order_by clause '${shown(text)}': datasets have no order.`);
    if (clauses.some((other) => other.entity === entity && other.key === key)) throw invalid(`\`order_by\` contains duplicate fields: ${shown(text)}`);
    clauses.push({ entity, key, ascending });
  }
  if (clauses.length > MAX_CLAUSES) throw invalid(`An order may have at most ${MAX_CLAUSES} fields.`);
  return clauses;
}
