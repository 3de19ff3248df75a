import { describe, expect, it } from 'vitest';
import { call, col, set } from '../../../contracts/row-transforms.ts';
import { createRowReader } from '../../../data/request-row.ts';

const signature = {
  columns: [
    { name: 'distance', type: 'integer' as const },
    { name: 'origin', type: 'string' as const },
    { name: 'date', type: 'timestamp' as const },
    { name: 'night', type: 'boolean' as const },
  ],
  transforms: [set('far', call('if', call('greater', col('distance'), 1000), 1, 0)), set('origin', call('upper', col('origin')))],
  graph: { numbers: ['distance', 'far', 'night'], dates: ['date'], strings: ['origin'] },
};

describe('a request row', () => {
  it('is transformed and packed by kind in the order of the graph', () => {
    const reader = createRowReader(signature);
    const packed = reader.allocate(2);
    expect(reader.read({ distance: 2000, origin: 'jfk', date: '2001-01-01T00:00:00Z', night: true, more: 1 }, 0, packed, 0)).toBeUndefined();
    expect(reader.read({ distance: 5, origin: 'ü', date: 86_400_000, night: false }, 1, packed, 1)).toBeUndefined();
    expect([...packed.numbers]).toEqual([2000, 1, 1, 5, 0, 0]);
    expect([...packed.dates]).toEqual([978307200000n, 86_400_000n]);
    expect(packed.strings).toEqual(['JFK', 'Ü']);
  });

  it('packs nulls as NaN, the least int64 and U+0000', () => {
    const reader = createRowReader(signature);
    const packed = reader.allocate(1);
    expect(reader.read({ distance: null, origin: null, date: null, night: null }, 0, packed, 0)).toBeUndefined();
    expect([...packed.numbers]).toEqual([NaN, 0, NaN]);
    expect(packed.dates[0]).toBe(-(2n ** 63n));
    expect(packed.strings).toEqual(['\0']);
  });

  it('reports every column that is missing or has another type, with its row, and never the text that was sent', () => {
    const reader = createRowReader(signature);
    const problems = reader.read({ distance: 1.5, origin: 7, date: 'secret' }, 3, reader.allocate(1), 0);
    expect(problems?.map(({ path, row }) => [path, row])).toEqual([
      ['rows[3].distance', 3],
      ['rows[3].origin', 3],
      ['rows[3].date', 3],
      ['rows[3].night', 3],
    ]);
    expect(JSON.stringify(problems)).not.toContain('secret');
    expect(problems?.[3]?.fix).toContain('distance, origin, date, night');
  });

  it.each([null, 7, 'text', [1]])('has to be an object: %j is not', (value) => {
    const reader = createRowReader(signature);
    expect(reader.read(value, 0, reader.allocate(1), 0)?.[0]?.path).toBe('rows[0]');
  });

  it('does not take a column from the prototype', () => {
    const reader = createRowReader({
      columns: [{ name: 'constructor', type: 'string' }],
      transforms: [],
      graph: { numbers: [], dates: [], strings: ['constructor'] },
    });
    expect(reader.read({}, 0, reader.allocate(1), 0)?.[0]?.message).toContain('missing');
  });
});
