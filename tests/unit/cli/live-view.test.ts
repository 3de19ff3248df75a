import { describe, expect, test } from 'vitest';
import { createLiveView, cutToWidth, progressBar, runLines } from '../../../cli/live-view.ts';
import type { RunSnapshot } from '../../../cli/run-snapshot.ts';
import type { RunProgress, StageView } from '../../../contracts/run.ts';
import { recordedTerminal } from './recorded-terminal.ts';

const START = '2026-01-01T00:00:00.000Z';
const at = (seconds: number): number => Date.parse(START) + seconds * 1000;
const RUN_ID = '0123456789abcdef0123456789abcdef';

const stage = (view: Partial<StageView>): StageView => ({
  name: 'ingest',
  kind: 'ingest',
  pool: 'cpu',
  status: 'completed',
  startedAt: START,
  endedAt: new Date(at(2)).toISOString(),
  ...view,
});

function snapshot(progress: Partial<RunProgress>, rest: Partial<RunSnapshot> = {}): RunSnapshot {
  return {
    workflowId: 'flightDelay-1',
    pipeline: 'flightDelay',
    workflowStatus: 'RUNNING',
    isOpen: true,
    signs: new Map(),
    startedAt: START,
    endedAt: null,
    progress: { runId: RUN_ID, pipeline: 'flightDelay', status: 'running', paused: false, stages: [], gates: [], undoProblems: [], ...progress },
    ...rest,
  };
}

const training = snapshot(
  {
    stages: [
      stage({ summary: '3,000,000 rows' }),
      { name: 'train-gbdt', kind: 'train', pool: 'cpu', status: 'running', startedAt: new Date(at(2)).toISOString() },
    ],
  },
  { signs: new Map([['train-gbdt', { heartbeat: { fraction: 0.5, message: 'tree 30 of 60' }, attempt: 1, lastFailure: null, started: true }]]) },
);

describe('runLines', () => {
  test('shows each stage with its time, and a bar for one that says how far it is', () => {
    expect(runLines(training, at(10))).toEqual([
      `flightDelay  run ${RUN_ID}  running  10.0 s`,
      '  ✓ ingest      2.0 s  3,000,000 rows',
      '  ▶ train-gbdt  8.0 s  ██████████░░░░░░░░░░  50 %  tree 30 of 60',
    ]);
  });

  test('says of a later attempt why the one before failed, and of one that nobody has taken that it waits', () => {
    const signs = new Map([['train-gbdt', { heartbeat: null, attempt: 2, lastFailure: 'worker died', started: false }]]);
    expect(runLines({ ...training, signs }, at(10)).at(-1)).toContain('attempt 2 (before: worker died), waits for a worker');
  });

  test('says what a run waits for, and how to decide', () => {
    const lines = runLines(snapshot({ gates: [{ gate: 'production', approversNeeded: 2, approvals: [], expiresAt: null }] }), at(1));
    expect(lines.at(-1)).toBe(`Waits for approval of production: 0 of 2. millrace approve ${RUN_ID} production --reason TEXT`);
  });

  test('says so while no worker answers for the run', () => {
    expect(runLines({ ...training, progress: null }, at(1))).toEqual(['flightDelay  flightDelay-1  no worker answers yet  1.0 s']);
  });
});

describe('createLiveView', () => {
  test('redraws in place on a terminal', () => {
    const terminal = recordedTerminal({ isInteractive: true, columns: 60 });
    const view = createLiveView(terminal);
    view.show(training, at(10));
    view.show(training, at(11));
    expect(terminal.out().split('\u001b[J')).toHaveLength(3);
    expect(terminal.out()).toContain('\u001b[3A');
    expect(
      terminal
        .out()
        .split('\n')
        .every((line) => line.replaceAll(/\u001b\[\d*[AJ]/g, '').length < 60),
    ).toBe(true);
  });

  test('prints a line a change where there is no terminal, and nothing twice', () => {
    const terminal = recordedTerminal();
    const view = createLiveView(terminal);
    for (const seconds of [10, 11, 12]) view.show(training, at(seconds));
    const lines = terminal.out().trimEnd().split('\n');
    expect(
      lines.map((line) =>
        line
          .trim()
          .split(/\s{2,}/)
          .slice(1, 3),
      ),
    ).toEqual([
      ['flightDelay', RUN_ID],
      ['ingest', 'completed'],
      ['train-gbdt', 'running'],
      ['train-gbdt', '██████████░░░░░░░░░░'],
    ]);
  });
});

test('a bar is full at 1, and stays within its width beyond', () => {
  expect(progressBar(1)).toBe(`${'█'.repeat(20)} 100 %`);
  expect(progressBar(0)).toBe(`${'░'.repeat(20)}   0 %`);
});

test('cutting a line counts what is seen, not the colours', () => {
  expect(cutToWidth('\u001b[31mabcdef\u001b[39m', 4)).toBe('\u001b[31mabc…\u001b[39m');
  expect(cutToWidth('abc', 10)).toBe('abc');
});
