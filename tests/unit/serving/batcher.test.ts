import { expect, test } from 'vitest';
import { createBatcher } from '../../../serving/batcher.ts';
import type { ModelRunner } from '../../../serving/model-runner.ts';

/** Doubles each number; fails on a run that holds a negative one. */
function doubling(): { readonly runner: ModelRunner; readonly runs: number[] } {
  const runs: number[] = [];
  return {
    runs,
    runner: {
      async run(packed, firstRow, rows) {
        runs.push(rows);
        await new Promise((resolve) => setImmediate(resolve));
        const values = packed.numbers.slice(firstRow, firstRow + rows);
        if (values.some((value) => value < 0)) throw new Error('negative');
        return { values: values.map((value) => value * 2), width: 1 };
      },
      close: () => Promise.resolve(),
    },
  };
}

const widths = { numbers: 1, dates: 0, strings: 0 };

function ask(batcher: ReturnType<typeof createBatcher>, values: readonly number[]): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const problems = batcher.add(
      values.length,
      (row, packed, at) => {
        packed.numbers[at] = values[row] ?? 0;
        return Number.isNaN(values[row]) ? [{ path: `rows[${row}]`, message: 'is not a number' }] : undefined;
      },
      (error, output, _packed, firstRow) => {
        if (error !== undefined || output === undefined) reject(error ?? new Error('no output'));
        else resolve(values.map((_, row) => output.values[firstRow + row] ?? Number.NaN));
      },
    );
    if (problems !== undefined) reject(new Error(problems.map((p) => p.path).join(' ')));
  });
}

test('a lone request runs at once, and those that come meanwhile run together', async () => {
  const { runner, runs } = doubling();
  const batcher = createBatcher(runner, { widths });
  const answers = await Promise.all([ask(batcher, [1]), ask(batcher, [2, 3]), ask(batcher, [4])]);
  expect(answers).toEqual([[2], [4, 6], [8]]);
  expect(runs).toEqual([1, 3]);
});

test('a batch takes no more rows than its bound, and a larger request runs alone', async () => {
  const { runner, runs } = doubling();
  const batcher = createBatcher(runner, { widths, maxRows: 4 });
  const large = Array.from({ length: 9 }, (_, i) => i);
  const answers = await Promise.all([ask(batcher, [0]), ask(batcher, [1, 2, 3]), ask(batcher, [4, 5]), ask(batcher, large)]);
  expect(answers).toEqual([[0], [2, 4, 6], [8, 10], large.map((x) => x * 2)]);
  expect(runs).toEqual([1, 3, 2, 9]);
});

test('a request that makes the model fail fails alone', async () => {
  const { runner } = doubling();
  const batcher = createBatcher(runner, { widths });
  const outcomes = await Promise.allSettled([ask(batcher, [1]), ask(batcher, [2]), ask(batcher, [-1]), ask(batcher, [3, 4])]);
  expect(outcomes.map((o) => o.status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  expect(outcomes.map((o) => (o.status === 'fulfilled' ? o.value : (o.reason as { code: string }).code))).toEqual([[2], [4], 'INTERNAL', [6, 8]]);
});

test('a refused request leaves no rows behind, whether it is the first of a batch or a later one', async () => {
  const { runner, runs } = doubling();
  const batcher = createBatcher(runner, { widths });
  await expect(ask(batcher, [5, Number.NaN, Number.NaN])).rejects.toThrow('rows[1] rows[2]');
  const outcomes = await Promise.allSettled([ask(batcher, [1]), ask(batcher, [2]), ask(batcher, [7, Number.NaN]), ask(batcher, [3])]);
  expect(outcomes.map((o) => (o.status === 'fulfilled' ? o.value : 'refused'))).toEqual([[2], [4], 'refused', [6]]);
  expect(runs).toEqual([1, 2]);
});

test('an answer that throws is told, and keeps no other from its own', async () => {
  const { runner } = doubling();
  const unexpected: unknown[] = [];
  const batcher = createBatcher(runner, { widths, onUnexpected: (cause) => unexpected.push(cause) });
  const thrown = new Error('the answer could not be written');
  batcher.add(
    1,
    () => undefined,
    () => {
      throw thrown;
    },
  );
  expect(await ask(batcher, [4])).toEqual([8]);
  await batcher.drained();
  expect(unexpected).toEqual([thrown]);
});
