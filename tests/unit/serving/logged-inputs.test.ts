import { expect, test } from 'vitest';
import { call, col, drop, hashed, rename, type RowTransform, set } from '../../../contracts/row-transforms.ts';
import { planLoggedInputs } from '../../../serving/logged-inputs.ts';

const plan = (transforms: readonly RowTransform[], strings: readonly string[]): { raw: readonly string[]; transformed: string[]; packed: string[] } => {
  const { raw, transformed, packed } = planLoggedInputs({
    columns: [
      { name: 'age', type: 'number' },
      { name: 'email', type: 'string' },
    ],
    transforms: [...transforms],
    graph: { numbers: ['age'], dates: [], strings: [...strings] },
    task: { kind: 'raw' },
    threshold: 0.5,
  });
  return { raw, transformed: transformed.map((c) => c.name), packed: packed.map((c) => c.name) };
};

test('without a hash every raw column is logged', () => {
  expect(plan([], ['email'])).toEqual({ raw: ['age', 'email'], transformed: [], packed: ['age', 'email'] });
});

test('a hashed column is logged by its hash, also under its own name', () => {
  expect(plan([set('email', hashed(col('email')))], ['email'])).toEqual({ raw: ['age'], transformed: ['email'], packed: ['age'] });
});

test('a hash is seen through renames and functions', () => {
  const transforms = [
    rename('email', 'mail'),
    set('address', call('lower', col('mail'))),
    set('key', hashed(call('concat', col('address'), '!'))),
    drop('mail', 'address'),
  ];
  expect(plan(transforms, ['key'])).toEqual({ raw: ['age'], transformed: ['key'], packed: ['age'] });
});

test('what shows a hidden column beside its hash is not logged', () => {
  const transforms = [
    set('key', hashed(col('email'))),
    set('domain', call('substring', col('email'), 1, 5)),
    set('both', call('concat', col('key'), col('email'))),
  ];
  expect(plan(transforms, ['key', 'domain', 'both'])).toEqual({ raw: ['age'], transformed: ['key'], packed: ['age'] });
});
