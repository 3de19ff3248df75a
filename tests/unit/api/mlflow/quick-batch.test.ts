import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MOST_KEY, MOST_TAG_VALUE } from '../../../../api/mlflow/limits.ts';
import { RUN_OPERATIONS } from '../../../../api/mlflow/runs.ts';

const operationOf = (path: string) => {
  const found = RUN_OPERATIONS.find((operation) => operation.path === path);
  if (found?.quick === undefined) throw new Error(`${path} has no quick reading`);
  return { schema: found.schema, quick: found.quick };
};
const batch = operationOf('/mlflow/runs/log-batch');
const point = operationOf('/mlflow/runs/log-metric');

/** Plain ones mostly, and everything that a client could get wrong. */
const key = fc.oneof(
  { weight: 6, arbitrary: fc.stringMatching(/^[a-z0-9_.\- :/]{1,12}$/) },
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.constantFrom('', '.', '..', 'a/../b', '/a', 'a/', 'a//b', 'ключ', 'k'.repeat(MOST_KEY), 'k'.repeat(MOST_KEY + 1), null, 7, undefined),
);
const int = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 2e12 }) },
  fc.constantFrom(-1, 1.5, 2 ** 53, 253_402_300_800_000, '12', '-3', null, undefined, true),
);
const value = fc.oneof({ weight: 4, arbitrary: fc.double() }, fc.constantFrom('NaN', 'Infinity', '1e3', 'x', null, undefined, Infinity));
const text = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 8 }) },
  fc.constantFrom('\u0000', '\uD800', '😀', 'v'.repeat(MOST_TAG_VALUE), 'v'.repeat(MOST_TAG_VALUE + 1), null, undefined, 3),
);
const extra = fc.constantFrom({}, {}, {}, { model_id: 'm-1' }, { model_id: null }, { dataset_name: 'd', model_id: 'm' }, { other: 1 });
const metric = fc.tuple(key, value, int, int, extra).map(([k, v, timestamp, step, more]) => ({ key: k, value: v, timestamp, step, ...more }));
const pair = fc.record({ key, value: text });
const many = <T>(item: fc.Arbitrary<T>) => fc.oneof({ weight: 6, arbitrary: fc.array(item, { maxLength: 3 }) }, fc.constantFrom(null, undefined, 3, 'x'), item);
const run = fc.constantFrom<object>(
  { run_id: 'a'.repeat(32) },
  { run_id: 'r', run_uuid: 'r' },
  { run_uuid: 'r' },
  { run_id: '' },
  { run_id: 5 },
  {},
  { run_id: 'r', run_uuid: null },
);

describe('the quick reading of what is logged', () => {
  it('reads a usual batch, and what is no plain one leaves to the schema', () => {
    const plain = {
      run_id: 'r',
      metrics: [{ key: 'train/loss', value: 0.5, timestamp: 1_700_000_000_000, step: 3 }],
      params: [{ key: 'p', value: 'ü' }],
      tags: [{ key: 'mlflow.user', value: '' }],
    };
    expect(batch.quick(plain)).toEqual({
      runId: 'r',
      metrics: [{ key: 'train/loss', value: 0.5, atMs: 1_700_000_000_000, step: 3 }],
      params: [{ key: 'p', value: 'ü' }],
      tags: [{ key: 'mlflow.user', value: '' }],
    });
    for (const wrong of [{ value: 'NaN' }, { key: 'a/../b' }, { key: 'ключ' }, { model_id: 'm' }, { timestamp: -1 }, { step: 0.5 }])
      expect(batch.quick({ ...plain, metrics: [{ ...plain.metrics[0], ...wrong }] })).toBeUndefined();
  });

  it('gives what the schema gives, whatever it is given', () => {
    fc.assert(
      fc.property(run, many(metric), many(pair), many(pair), (of, metrics, params, tags) => {
        const request = { ...of, metrics, params, tags };
        const quick = batch.quick(request);
        if (quick !== undefined) expect(batch.schema.safeParse(request)).toEqual({ success: true, data: quick });
      }),
      { numRuns: 2_000, seed: 8 },
    );
    fc.assert(
      fc.property(run, metric, (of, one) => {
        const request = { ...of, ...one };
        const quick = point.quick(request);
        if (quick !== undefined) expect(point.schema.safeParse(request)).toEqual({ success: true, data: quick });
      }),
      { numRuns: 2_000, seed: 8 },
    );
  });
});
