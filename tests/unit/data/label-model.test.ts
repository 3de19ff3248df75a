import { describe, expect, it } from 'vitest';
import { dawidSkene, majority, type VotePattern } from '../../../data/label-model.ts';

/** Three people, 60 items, three classes, about 30 % of the labels missing (`-`). */
const PEOPLE = [
  'a-abcca-abb-caacb--bbca--a-b-a-b-a-bb-b---c--ccb-ba----bcaac',
  'ac---caabbbacaaccba-baaa---bc-abbabb--bb-a--aca--bc-ab-----c',
  'acaac--a-bb--aacab-bb-aacccb-a-bc-a--c-bb-c-a-cbc-acaacbbbcc',
];
const patternsOf = (people: readonly string[]): VotePattern[] =>
  Array.from(people[0] ?? '', (_, item) => ({
    votes: people.map((labels) => {
      const vote = 'abc'.indexOf(labels[item] ?? '');
      return vote === -1 ? null : vote;
    }),
    rows: 1,
  }));

describe('dawidSkene', () => {
  it('gives the probabilities that crowd-kit 1.4.2 gives, with labels missing', () => {
    const { posteriors } = dawidSkene(patternsOf(PEOPLE), 3, { abstentions: 'missing', maxIterations: 3_000, tolerance: -1 });
    const expected: Readonly<Record<number, readonly number[]>> = {
      1: [0.054359959, 0.0, 0.945640041],
      2: [0.987624132, 0.012375868, 0.0],
      3: [0.63764021, 0.36235979, 0.0],
      8: [0.491625876, 0.508374124, 0.0],
      34: [0.543898717, 0.456101283, 0.0],
    };
    for (const [item, classes] of Object.entries(expected)) classes.forEach((p, c) => expect(posteriors[Number(item)]?.[c], `item ${item}`).toBeCloseTo(p, 6));
  });

  it('counts a pattern of n rows as n rows of it', () => {
    const single = patternsOf(PEOPLE);
    const counted = single.map((pattern) => ({ ...pattern, rows: 3 }));
    const repeated = [...single, ...single, ...single];
    const a = dawidSkene(counted, 3, { abstentions: 'missing' });
    const b = dawidSkene(repeated, 3, { abstentions: 'missing' });
    a.posteriors.forEach((posterior, p) => posterior.forEach((value, c) => expect(value).toBeCloseTo(b.posteriors[p]?.[c] ?? Number.NaN, 9)));
  });

  it('learns from rules that can vote for one class only, which the majority takes at their word', () => {
    // two rules for class 0 that nearly always fire together, and a sloppy one for class 1 that fires on half of class 0 too
    const patterns: VotePattern[] = [
      { votes: [0, 0, null], rows: 45 },
      { votes: [0, 0, 1], rows: 45 },
      { votes: [null, null, 1], rows: 95 },
      { votes: [0, null, 1], rows: 5 },
      { votes: [null, null, null], rows: 10 },
    ];
    const { posteriors, accuracies } = dawidSkene(patterns, 2, { abstentions: 'response' });
    expect(posteriors[1]?.[0]).toBeGreaterThan(0.95);
    expect(posteriors[2]?.[1]).toBeGreaterThan(0.95);
    expect(accuracies[0]).toBeGreaterThan(accuracies[2] ?? 1);
    expect(posteriors[4]).toEqual([0.5, 0.5]);
  });

  it('gives equal chances where nobody votes', () => {
    expect(dawidSkene([{ votes: [null, null], rows: 4 }], 4, { abstentions: 'response' }).posteriors).toEqual([[0.25, 0.25, 0.25, 0.25]]);
    expect(dawidSkene([], 2, { abstentions: 'missing' })).toEqual({ posteriors: [], accuracies: [], iterations: 0 });
  });
});

describe('majority', () => {
  it('gives each class its share of the votes, and each voter the mean share of what it voted for', () => {
    const { posteriors, accuracies } = majority(
      [
        { votes: [0, 0, 1], rows: 3 },
        { votes: [1, null, null], rows: 1 },
      ],
      2,
    );
    expect(posteriors).toEqual([
      [2 / 3, 1 / 3],
      [0, 1],
    ]);
    expect(accuracies[0]).toBeCloseTo((3 * (2 / 3) + 1) / 4, 12);
    expect(accuracies[2]).toBeCloseTo(1 / 3, 12);
  });
});
