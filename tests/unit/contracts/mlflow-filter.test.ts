import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { EXPERIMENT_FILTERS, type FilterLanguage, LOGGED_MODEL_FILTERS, parseFilter, parseOrder, RUN_FILTERS } from '../../../contracts/mlflow-filter.ts';

const runs = (text: string) => parseFilter(text, RUN_FILTERS);
const problem = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(MillraceError);
    expect((error as MillraceError).code).toBe('INVALID_REQUEST');
    return (error as MillraceError).message;
  }
  throw new Error('nothing was refused');
};

describe("MLflow's filter language", () => {
  it('has nothing to say of an empty text', () => {
    expect(runs('')).toEqual([]);
    expect(runs('  \n ')).toEqual([]);
  });

  it('reads clauses that are joined by AND, whatever the case of its words', () => {
    expect(runs(`metrics.loss < 0.5 and params.depth = '3' AND tags.owner LiKe 'a%'`)).toEqual([
      { entity: 'metric', key: 'loss', operator: '<', value: 0.5 },
      { entity: 'param', key: 'depth', operator: '=', value: '3' },
      { entity: 'tag', key: 'owner', operator: 'LIKE', value: 'a%' },
    ]);
  });

  it.each([
    ['metric', ['metrics.a > 1', 'metric.a > 1']],
    ['param', [`params.a = 'x'`, `param.a = 'x'`, `parameters.a = 'x'`, `parameter.a = 'x'`]],
    ['tag', [`tags.a = 'x'`, `tag.a = 'x'`]],
    ['attribute', [`attributes.status = 'x'`, `attribute.status = 'x'`, `attr.status = 'x'`, `run.status = 'x'`, `status = 'x'`]],
    ['dataset', [`datasets.name = 'x'`, `dataset.name = 'x'`]],
  ] as const)('knows each name of a %s', (entity, texts) => {
    for (const text of texts) expect(runs(text)).toMatchObject([{ entity }]);
  });

  it('gives an attribute its one name', () => {
    expect(runs('created > 0')).toMatchObject([{ key: 'start_time' }]);
    expect(runs('attributes.`Run name` = "x"')).toMatchObject([{ key: 'run_name', value: 'x' }]);
  });

  it('takes keys in backticks and in double quotes, and values in either quote', () => {
    expect(runs('metrics.`val loss` >= -1.5e-3')).toEqual([{ entity: 'metric', key: 'val loss', operator: '>=', value: -0.0015 }]);
    expect(runs('`metrics`."a`b" != .5')).toEqual([{ entity: 'metric', key: 'a`b', operator: '!=', value: 0.5 }]);
    expect(runs(`tags.\`a = 'b' AND c\` = "it's"`)).toEqual([{ entity: 'tag', key: "a = 'b' AND c", operator: '=', value: "it's" }]);
    expect(runs(`tags.x = 'it''s'`)).toMatchObject([{ value: "it's" }]);
    expect(runs(`tags.mlflow.source.name = 'x'`)).toMatchObject([{ key: 'mlflow.source.name' }]);
    expect(runs(`metrics.train/loss-1>2`)).toEqual([{ entity: 'metric', key: 'train/loss-1', operator: '>', value: 2 }]);
  });

  it('reads lists and absence', () => {
    expect(runs(`run_id IN ('a', "b",)`)).toEqual([{ entity: 'attribute', key: 'run_id', operator: 'IN', value: ['a', 'b'] }]);
    expect(runs(`dataset.context not in ('train')`)).toEqual([{ entity: 'dataset', key: 'context', operator: 'NOT IN', value: ['train'] }]);
    expect(runs('tags.x IS NULL AND params.y is not null')).toEqual([
      { entity: 'tag', key: 'x', operator: 'IS NULL', value: null },
      { entity: 'param', key: 'y', operator: 'IS NOT NULL', value: null },
    ]);
  });

  it.each([
    ['metrics.a > 1 OR metrics.b > 1', /Clauses are joined by AND/],
    ['metrics.a > 1;', /Clauses are joined by AND/],
    ['metrics.a > 1 AND', /name is missing/],
    ['metrics.a', /comparison was expected/],
    ['metrics.a > x', /Expected numeric value type for metric 'a'/],
    [`metrics.a > '1'`, /Expected numeric value type/],
    [`metrics.a LIKE 'x'`, /Invalid comparator 'LIKE'/],
    ['params.a = 1', /Expected a quoted string value for param 'a'/],
    [`params.a > 'x'`, /Invalid comparator '>'/],
    [`params.a = 'x`, /not closed/],
    [`params.\`a = 'x'`, /not closed/],
    [`things.a = 'x'`, /Invalid entity type 'things'/],
    [`attributes.color = 'x'`, /Invalid attribute key 'color' specified\. Valid keys are 'run_id'/],
    [`color = 'x'`, /Invalid attribute key 'color'/],
    [`datasets.size = 'x'`, /Invalid dataset key 'size'/],
    ['run_id IN ()', /non-empty list of string values/],
    [`run_id IN ('a'`, /not closed/],
    [`run_id IN 'a'`, /list of quoted texts/],
    [`status IN ('a')`, /Invalid comparator 'IN'/],
    ['tags.a IS', /IS must be followed by NULL/],
    [`tags.a NOT LIKE 'x'`, /NOT must be followed by IN/],
    ['metrics.a > 1.2.3', /Expected numeric/],
    ['start_time IS NULL', /Invalid comparator/],
    [`'a' = 'a'`, /name was expected/],
    ['metrics.a > (select 1)', /Expected numeric/],
  ])('refuses %s', (text, message) => {
    expect(problem(() => runs(text))).toMatch(message);
  });

  it('has bounds', () => {
    expect(problem(() => runs('x'.repeat(50_001)))).toMatch(/at most 50000 characters/);
    expect(problem(() => runs(Array.from({ length: 101 }, () => 'metrics.a > 1').join(' AND ')))).toMatch(/at most 100 clauses/);
    expect(runs(Array.from({ length: 100 }, () => 'metrics.a > 1').join(' AND '))).toHaveLength(100);
  });

  it('differs by what is searched', () => {
    expect(parseFilter(`name = 'x' AND experiment_id IN ('1') AND creation_time > 5`, EXPERIMENT_FILTERS)).toHaveLength(3);
    expect(problem(() => parseFilter('metrics.a > 1', EXPERIMENT_FILTERS))).toMatch(/Invalid entity type 'metrics'/);
    expect(parseFilter(`name IN ('x') AND metrics.auc > 0.5 AND creation_time > 0`, LOGGED_MODEL_FILTERS)).toMatchObject([
      {},
      {},
      { key: 'creation_timestamp' },
    ]);
    expect(problem(() => parseFilter('tags.x IS NULL', LOGGED_MODEL_FILTERS))).toMatch(/Invalid comparator/);
  });
});

describe("MLflow's order", () => {
  it('goes up unless it is told to go down', () => {
    expect(parseOrder(['metrics.`a b` DESC', 'start_time asc', 'params.p'], RUN_FILTERS)).toEqual([
      { entity: 'metric', key: 'a b', ascending: false },
      { entity: 'attribute', key: 'start_time', ascending: true },
      { entity: 'param', key: 'p', ascending: true },
    ]);
  });

  it('refuses what it cannot follow', () => {
    expect(problem(() => parseOrder(['metrics.a DESC NULLS'], RUN_FILTERS))).toMatch(/NULLS was not expected/);
    expect(problem(() => parseOrder(['metrics.a', 'metric.a DESC'], RUN_FILTERS))).toMatch(/duplicate fields/);
    expect(problem(() => parseOrder(['datasets.name'], RUN_FILTERS))).toMatch(/no order/);
    expect(problem(() => parseOrder([''], RUN_FILTERS))).toMatch(/name is missing/);
  });
});

describe('the reader of filters, given anything', () => {
  const languages: readonly FilterLanguage[] = [RUN_FILTERS, EXPERIMENT_FILTERS, LOGGED_MODEL_FILTERS];
  const words = fc.constantFrom(
    'metrics',
    'tags',
    '.',
    '`',
    '"',
    "'",
    ' ',
    'a',
    '=',
    '<=',
    '!',
    '(',
    ')',
    ',',
    'AND',
    'IN',
    'NOT',
    'IS',
    'NULL',
    'LIKE',
    '1',
    '-',
    'e5',
    ';',
    '--',
    'status',
    '\u0000',
    '💡',
  );

  it('reads it or refuses it, and nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.array(words, { maxLength: 30 }).map((parts) => parts.join('')),
          fc.array(words).map((parts) => parts.join(' ')),
        ),
        (text) => {
          for (const language of languages)
            for (const read of [() => parseFilter(text, language), () => parseOrder([text], language)])
              try {
                read();
              } catch (error) {
                if (!(error instanceof MillraceError && error.code === 'INVALID_REQUEST')) throw error;
              }
        },
      ),
      { numRuns: 2_000, seed: 8 },
    );
  });

  it('gives back every key and value that was written down properly', () => {
    const quote = (text: string, mark: string): string => `${mark}${text.replaceAll(mark, mark + mark)}${mark}`;
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1 }),
        fc.string({ unit: 'grapheme' }),
        fc.double({ noNaN: true, noDefaultInfinity: true }).map((one) => one + 0),
        (key, value, number) => {
          expect(
            runs(
              `tags.${quote(key, '`')} = ${quote(value, "'")} AND metrics.${quote(key, '"')}>${number} AND param.${quote(key, '`')} ILIKE ${quote(value, '"')}`,
            ),
          ).toEqual([
            { entity: 'tag', key, operator: '=', value },
            { entity: 'metric', key, operator: '>', value: number },
            { entity: 'param', key, operator: 'ILIKE', value },
          ]);
        },
      ),
      { numRuns: 500, seed: 8 },
    );
  });
});
