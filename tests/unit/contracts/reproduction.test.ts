import { describe, expect, it } from 'vitest';
import { compareReproduction, isReproduced, type ReproducedStage, whyNotAgain } from '../../../contracts/reproduction.ts';

const stage = (name: string, value: unknown, changes: Partial<ReproducedStage> = {}): ReproducedStage => ({
  name,
  kind: name,
  status: 'completed',
  input: {},
  output: { value, summary: 'a line for people' },
  fingerprintParts: null,
  error: null,
  ...changes,
});

describe('compareReproduction', () => {
  it('compares what stages gave, not what they told of it, whatever the order of keys', () => {
    const before = stage('train', { predictor: 'a', rows: 3 });
    const compared = compareReproduction(
      [before],
      [{ ...stage('train', { rows: 3, predictor: 'a' }), output: { value: { rows: 3, predictor: 'a' }, summary: 'other' } }],
    );
    expect(compared).toMatchObject([{ stage: 'train', verdict: 'same', differs: [], note: '' }]);
  });

  it('says why other bytes came out, as far as it is known', () => {
    const parts = { code: '1', input: { seed: 1 }, runtime: 'node 20', source: { sha256: 'x', size: 3 } };
    const before = stage('ingest', { id: 'a' }, { fingerprintParts: parts });
    const now = stage('ingest', { id: 'b' }, { fingerprintParts: { ...parts, code: '2', source: { sha256: 'y', size: 3 } } });
    expect(compareReproduction([before], [now])).toMatchObject([
      {
        verdict: 'different',
        differs: ['code', 'source.sha256'],
        note: "Millrace's own code of this kind of stage has changed; the source has changed",
      },
    ]);
    expect(compareReproduction([before], [{ ...before, output: { value: { id: 'c' } } }])[0]?.note).toBe('with the same data, code, parameters and seed');
    expect(compareReproduction([before], [{ ...now, output: before.output }])).toMatchObject([{ verdict: 'same', differs: ['code', 'source.sha256'] }]);
  });

  it('takes an evaluation against another champion for the same where its metrics are', () => {
    const before = stage('evaluate', { metrics: { auc: 0.7 }, report: 'a' }, { fingerprintParts: { champion: null } });
    const now = (auc: number) => stage('evaluate', { metrics: { auc }, report: 'b' }, { fingerprintParts: { champion: 'p' } });
    const equal = compareReproduction([before], [now(0.7)]);
    expect(equal).toMatchObject([{ verdict: 'same figures', note: 'another champion stands against it' }]);
    expect(isReproduced(equal)).toBe(true);
    expect(isReproduced(compareReproduction([before], [now(0.71)]))).toBe(false);
  });

  it('tells what failed, what was not reached, and what is not done again', () => {
    const error = { code: 'SOURCE_NOT_FOUND', message: 'There is no file.', fix: '', problems: [] } as const;
    const first = [stage('ingest', 1), stage('split', 2), stage('register', 3), stage('train', null, { status: 'failed' })];
    const compared = compareReproduction(first, [stage('ingest', null, { status: 'failed', output: null, error })]);
    expect(compared.map(({ stage: name, verdict, note }) => [name, verdict, note])).toEqual([
      ['ingest', 'failed', 'SOURCE_NOT_FOUND: There is no file.'],
      ['split', 'failed', 'it was not reached'],
      ['register', 'not done', 'it publishes'],
      ['train', 'not done', 'it was failed'],
    ]);
    expect(isReproduced(compared)).toBe(false);
    expect(compareReproduction(first, [], 'register').map(({ stage: name }) => name)).toEqual(['register']);
  });

  it('leaves an ingest alone that goes on from what earlier ones have read', () => {
    expect(whyNotAgain(stage('ingest', 1, { input: { increment: { by: 'files' } } }))).toBe('it goes on from what earlier runs have read');
    expect(whyNotAgain(stage('ingest', 1))).toBeNull();
  });
});
