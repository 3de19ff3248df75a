import { expect, test } from 'vitest';
import type { Signature } from '../../../contracts/signature.ts';
import { answeredClass, compileAnswerWriter, jsonNumber } from '../../../serving/answer-text.ts';

const signature = (task: Signature['task'], threshold = 0.5): Signature => ({
  columns: [],
  transforms: [],
  graph: { numbers: [], dates: [], strings: [] },
  task,
  threshold,
});
const answer = (of: Signature, values: number[]): unknown => JSON.parse(compileAnswerWriter(of)(values.map(jsonNumber), values, 0));

test('a regression answers its value, and null where the model gave no number', () => {
  expect(answer(signature({ kind: 'regression', target: 'y' }), [2.5])).toEqual({ value: 2.5 });
  expect(answer(signature({ kind: 'regression', target: 'y' }), [Number.NaN])).toEqual({ value: null });
});

test('many classes answer the most probable one, the first among equals', () => {
  const many = signature({ kind: 'multiclass', target: 'y', classes: ['a "quoted"', 'b', 'c'] });
  expect(answer(many, [0.25, 0.375, 0.375])).toEqual({ label: 'b', probability: 0.375, probabilities: { 'a "quoted"': 0.25, b: 0.375, c: 0.375 } });
});

test('the positive class is answered from the threshold on', () => {
  const binary = signature({ kind: 'binary', target: 'y', classes: ['no', 'yes'] }, 0.25);
  expect(answeredClass(binary, [0.75, 0.25], 0, 2)).toBe(1);
  expect(answeredClass(binary, [0.8, 0.2], 0, 2)).toBe(0);
});
