import { describe, expect, it } from 'vitest';
import type { RunProgress } from '../../../contracts/run.ts';
import { runDetails } from '../../../workflows/current-details.ts';

const PROGRESS: RunProgress = {
  runId: 'a'.repeat(32),
  pipeline: 'flightDelay',
  status: 'running',
  paused: false,
  stages: [
    { name: 'ingest', kind: 'ingest', pool: 'cpu', status: 'cached', summary: '3 rows | 2 columns\nas before' },
    { name: 'train', kind: 'train', pool: 'gpu', status: 'failed', error: { code: 'TARGET_ONE_CLASS', message: 'One class.', fix: '', problems: [] } },
  ],
  gates: [{ gate: 'production', approversNeeded: 2, approvals: [{ by: 'ada', reason: 'fine', at: '2001-01-01T00:00:00.000Z' }], expiresAt: null }],
  undoProblems: ['route x: not reachable'],
};

describe('the details of a run', () => {
  it('are one line a stage, with what cannot stand in a table escaped', () => {
    const lines = runDetails(PROGRESS, undefined).split('\n');
    expect(lines).toContain('| ≡ | ingest | cpu | 3 rows \\| 2 columns as before |');
    expect(lines).toContain('| ✗ | train | gpu | TARGET_ONE_CLASS: One class. |');
  });

  it('say what the run waits for, what it is for, and what could not be taken back', () => {
    const text = runDetails({ ...PROGRESS, paused: true }, { task: 'Tell late flights.', owner: 'operations' });
    expect(text).toContain('· paused');
    expect(text).toContain('Tell late flights. Owner: operations.');
    expect(text).toContain('Waits for approval **production**: 1 of 2.');
    expect(text).toContain('Could not be taken back: route x: not reachable');
  });
});
