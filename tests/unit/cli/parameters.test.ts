import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { checkParameters, nearestName, readParameters } from '../../../cli/parameters.ts';
import type { ParametersSchema } from '../../../cli/pipelines.ts';
import { MillraceError } from '../../../contracts/errors.ts';

const schema = z.toJSONSchema(
  z.object({
    source: z.string().default('flights.parquet'),
    trees: z.number().int().min(1).max(2_000).default(60),
    environment: z.enum(['development', 'production']).default('development'),
    rollout: z.object({ bakeSeconds: z.number().default(5) }).default({ bakeSeconds: 5 }),
  }),
  { io: 'input', unrepresentable: 'any' },
) as ParametersSchema;

function problemsOf(run: () => void): readonly (readonly [string, string])[] {
  try {
    run();
  } catch (error) {
    if (error instanceof MillraceError) return error.problems.map((p) => [p.path, p.message] as const);
    throw error;
  }
  return [];
}

describe('readParameters', () => {
  test('reads --set as JSON where it is JSON, and as text else', () => {
    expect(readParameters({ set: ['trees=10', 'source=a=b.csv', 'on=true', 'list=[1,2]'] })).toEqual({ trees: 10, source: 'a=b.csv', on: true, list: [1, 2] });
  });

  test('keeps as text what the schema says is text', () => {
    expect(readParameters({ set: ['source=2024'] }, schema)).toEqual({ source: '2024' });
  });

  test('sets nested fields by their path, and wins over --input', () => {
    expect(readParameters({ input: '{"trees": 1, "rollout": {"kind": "canary", "bakeSeconds": 9}}', set: ['trees=2', 'rollout.bakeSeconds=1'] })).toEqual({
      trees: 2,
      rollout: { kind: 'canary', bakeSeconds: 1 },
    });
  });

  test.each([{ input: '{trees: 1}' }, { input: '[1]' }, { set: ['trees'] }, { set: ['=1'] }, { set: ['a..b=1'] }, { set: ['__proto__.x=1'] }])(
    'refuses what cannot be parsed: %j',
    (options) => {
      expect(() => readParameters(options)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    },
  );
});

describe('checkParameters', () => {
  test('passes what fits; what is left out takes its default', () => {
    expect(problemsOf(() => checkParameters('flightDelay', { trees: 10 }, schema))).toEqual([]);
    expect(problemsOf(() => checkParameters('flightDelay', {}, schema))).toEqual([]);
  });

  test('tells every problem at once, an unknown name with the one that may be meant', () => {
    const problems = problemsOf(() => checkParameters('flightDelay', { tree: 5, trees: 0, environment: 'prod' }, schema));
    expect(problems.map(([path]) => path)).toEqual(['tree', 'trees', 'environment']);
    expect(problems[0]?.[1]).toBe('is not a parameter of this pipeline; is trees meant?');
  });
});

test('a name that is far from all others has no nearest one', () => {
  expect(nearestName('fligthDelay', ['flightDelay', 'spamFilter'])).toBe('flightDelay');
  expect(nearestName('weather', ['flightDelay', 'spamFilter'])).toBeUndefined();
});
