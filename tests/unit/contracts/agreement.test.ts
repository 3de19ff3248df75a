import { describe, expect, it } from 'vitest';
import { agreementOf, type GivenLabel } from '../../../contracts/agreement.ts';

const FULL = {
  x: 'acabccababbacaacbbabbcaacacbcaabcabbbabbbbcbaccbcbaccbcbcaac',
  y: 'acaaccaabbbacaaccbacbaaacaabcaabbabbbabbcacbacabcbcbabcbcacc',
  z: 'acaacccaabbbbaacababbcaacccbcacbcaacccabbbcaaccbcaacaacbbbcc',
};
const MISSING = {
  x: 'a-abcca-abb-caacb--bbca--a-b-a-b-a-bb-b---c--ccb-ba----bcaac',
  y: 'ac---caabbbacaaccba-baaa---bc-abbabb--bb-a--aca--bc-ab-----c',
  z: 'acaac--a-bb--aacab-bb-aacccb-a-bc-a--c-bb-c-a-cbc-acaacbbbcc',
};
const labelsOf = (people: Readonly<Record<string, string>>): GivenLabel[] =>
  Object.entries(people).flatMap(([by, labels]) => [...labels].flatMap((label, item) => (label === '-' ? [] : [{ item: String(item), by, label }])));

describe('agreement', () => {
  it("is scikit-learn 1.9.1's Cohen's kappa for each two people", () => {
    const kappas = agreementOf(labelsOf(FULL)).pairs.map(({ a, b, items, kappa }) => [a + b, items, kappa]);
    expect(kappas).toEqual([
      ['xy', 60, expect.closeTo(0.6254681647940075, 12)],
      ['xz', 60, expect.closeTo(0.5024875621890548, 12)],
      ['yz', 60, expect.closeTo(0.34972905377240515, 12)],
    ]);
  });

  it("is statsmodels 0.15.0's Fleiss' kappa where everybody labelled everything, and is not defined where not", () => {
    expect(agreementOf(labelsOf(FULL)).fleiss).toBeCloseTo(0.49124270225187694, 12);
    expect(agreementOf(labelsOf(MISSING)).fleiss).toBeNull();
  });

  it("is krippendorff 0.9.0's alpha, with and without missing labels", () => {
    expect(agreementOf(labelsOf(FULL)).alpha).toBeCloseTo(0.4940691316838106, 12);
    expect(agreementOf(labelsOf(MISSING)).alpha).toBeCloseTo(0.616165718927701, 12);
  });

  it('is not defined where nothing is shared or only one class was given', () => {
    expect(agreementOf([])).toEqual({ shared: 0, observed: null, pairs: [], fleiss: null, alpha: null });
    expect(agreementOf([{ item: '1', by: 'x', label: 'a' }])).toMatchObject({ shared: 0, alpha: null });
    const alike = agreementOf(labelsOf({ x: 'aaa', y: 'aaa' }));
    expect(alike).toMatchObject({ shared: 3, observed: 1, fleiss: null, alpha: null, pairs: [{ kappa: null }] });
  });
});
