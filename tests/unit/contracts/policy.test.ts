import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { readPolicies, SimulationSchema } from '../../../contracts/policy.ts';

const problemsOf = (content: unknown): readonly string[] => {
  try {
    readPolicies(content, 'policy.json');
  } catch (error) {
    if (error instanceof MillraceError) return error.problems.map(({ path }) => path);
  }
  return [];
};

describe('a policy file', () => {
  it('holds one policy, several, or several and what they are judged on', () => {
    const one = { name: 'weekly', retrain: { every: 7 } };
    expect(readPolicies(one, 'policy.json')).toEqual({
      simulation: {},
      policies: [{ name: 'weekly', train: { window: 'sliding', blocks: 2 }, retrain: { every: 7 }, serve: 'newest', controller: {} }],
    });
    expect(readPolicies([one, { name: 'static' }], 'policy.json').policies.map(({ name }) => name)).toEqual(['weekly', 'static']);
    expect(readPolicies({ simulation: { target: 'class' }, policies: [one] }, 'policy.json').simulation).toEqual({ target: 'class' });
    expect(SimulationSchema.parse({})).toEqual({ blocks: { count: 20 }, start: 2, labelDelayBlocks: 0, seed: 0 });
  });

  it('that is wrong in several places says all of them', () => {
    const gate = { holdout: 0.9 };
    expect(problemsOf({ name: 'a', retrain: { every: 0, quality: {} }, gate, colour: 'red' })).toEqual(
      expect.arrayContaining(['retrain.every', 'retrain.quality', 'gate.holdout', 'the file']),
    );
    expect(problemsOf([{ name: 'a' }, { name: '' }])).toEqual(['policies.1.name']);
    expect(problemsOf(3)).toEqual(['the file']);
  });

  it('names drift of features in the words of a monitor, or a detector of errors; what is wrong in either is told by its field', () => {
    const drift = (of: unknown) => ({ name: 'a', retrain: { drift: of } });
    for (const of of ['calibrated', { psi: 0.25, windows: 2, except: ['id'] }, { calibrated: { falseAlarms: 0.05 } }, { kind: 'adwin', delta: 0.01 }])
      expect(readPolicies(drift(of), 'policy.json').policies).toHaveLength(1);
    expect(problemsOf(drift({ kind: 'adwin', delta: 5 }))).toEqual(['retrain.drift.delta']);
    expect(problemsOf(drift({ psi: -1, windows: 0 }))).toEqual(['retrain.drift.psi', 'retrain.drift.windows']);
    expect(problemsOf(drift({ calibrated: { falseAlarms: 3 } }))).toEqual(['retrain.drift.calibrated.falseAlarms']);
    expect(problemsOf(drift('often'))).toEqual(['retrain.drift']);
  });

  it('with two policies of one name is refused: they could not be told apart', () => {
    expect(problemsOf([{ name: 'a' }, { name: 'a' }])).toEqual(['policies.1.name']);
  });
});
