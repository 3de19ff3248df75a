import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inKeyOrder, withKeyOrder } from '../../../contracts/key-order.ts';

/** An object as jsonb gives it back: keys by length, then by bytes. */
const throughJsonb = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(throughJsonb);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, throughJsonb(inner)] as const);
  return Object.fromEntries(entries.sort(([a], [b]) => Buffer.byteLength(a) - Buffer.byteLength(b) || Buffer.compare(Buffer.from(a), Buffer.from(b))));
};

test('keys come back from Postgres in the order in which they were written', () => {
  const value = { train: 1, features: { miles: { kind: 'numeric' }, airport: { kind: 'categorical', encode: 'auto' } }, args: [{ b: 1, a: { d: 1, c: 2 } }] };
  const back = inKeyOrder(throughJsonb(withKeyOrder(value)));
  expect(JSON.stringify(back)).toBe(JSON.stringify(value));
  expect(JSON.stringify(inKeyOrder(throughJsonb(value)))).not.toBe(JSON.stringify(value));
});

test('nothing is added where the order is that of Postgres, and values that are no objects stay as they are', () => {
  const sorted = { a: 1, b: 2, ab: { x: 1 } };
  expect(withKeyOrder(sorted)).toBe(sorted);
  for (const value of [null, 3, 'text', [1, 2]]) expect(inKeyOrder(withKeyOrder(value))).toEqual(value);
});

test('the order of bytes is that of Postgres also where UTF-16 has another', () => {
  const value = { '\u{10000}ab': 1, '\uF900cde': 2 };
  expect(JSON.stringify(inKeyOrder(throughJsonb(withKeyOrder(value))))).toBe(JSON.stringify(value));
  const turned = { '\u{10000}abc': 1, '\uF900\u0101bc': 2, '\uF900cde': 3 };
  expect(JSON.stringify(inKeyOrder(throughJsonb(withKeyOrder(turned))))).toBe(JSON.stringify(turned));
  const failedOnce = { '\u{10000}\u{10000}\u0800\u0800': 0, '\uF900\u{10000}\u{10000}\u0800': {} };
  expect(JSON.stringify(inKeyOrder(throughJsonb(withKeyOrder(failedOnce))))).toBe(JSON.stringify(failedOnce));
});

test('any JSON object survives', () => {
  const key = fc.string({ unit: 'binary', maxLength: 4 }).filter((text) => text !== '$keys' && text !== '__proto__' && !/^\d+$/.test(text));
  const { tree } = fc.letrec((tie) => ({
    tree: fc.dictionary(key, fc.oneof({ depthSize: 'small' }, fc.integer(), fc.string(), fc.array(tie('tree'), { maxLength: 2 }), tie('tree')), { maxKeys: 4 }),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      const plain = JSON.parse(JSON.stringify(value)) as unknown;
      expect(JSON.stringify(inKeyOrder(throughJsonb(withKeyOrder(plain))))).toBe(JSON.stringify(plain));
    }),
    { numRuns: 300 },
  );
});
