import { ScheduleNotFoundError, WorkflowFailedError, WorkflowNotFoundError, WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { expect, test } from 'vitest';
import { tellFailure, toMillraceError } from '../../../cli/failure.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import { recordedTerminal } from './recorded-terminal.ts';

const report = new MillraceError('EXPECTATIONS_FAILED', 'Two expectations do not hold.', { problems: [{ path: 'delay', message: 'has nulls' }] }).report();

test("a failed run's report is found inside Temporal's wrappers", () => {
  const failure = ApplicationFailure.create({ type: 'EXPECTATIONS_FAILED', message: 'x', details: [report] });
  expect(toMillraceError(new WorkflowFailedError('Workflow execution failed', failure, 'NON_RETRYABLE_FAILURE')).report()).toEqual(report);
});

test('a refused update says why it was refused', () => {
  const failure = ApplicationFailure.create({
    type: 'CONFLICT',
    message: 'The run waits for nothing.',
    details: [new MillraceError('CONFLICT', 'The run waits for nothing.').report()],
  });
  expect(toMillraceError(new WorkflowUpdateFailedError('update failed', failure))).toMatchObject({ code: 'CONFLICT', message: 'The run waits for nothing.' });
});

test("Temporal's missing things and cancelled runs have entries of the table", () => {
  expect(toMillraceError(new WorkflowNotFoundError('not found', 'w-1', undefined))).toMatchObject({ code: 'NOT_FOUND' });
  expect(toMillraceError(new ScheduleNotFoundError('not found', 's-1')).message).toContain('s-1');
  expect(toMillraceError(new WorkflowFailedError('x', new CancelledFailure('cancelled'), 'NON_RETRYABLE_FAILURE')).code).toBe('CONFLICT');
});

test('words go to standard error with the fix and without a stack; JSON goes to standard output', () => {
  const words = recordedTerminal();
  expect(tellFailure(MillraceError.fromReport(report), words, { json: false, debug: false })).toBe(1);
  expect(words.err()).toBe(
    'EXPECTATIONS_FAILED: Two expectations do not hold.\n  - delay: has nulls\n  How to fix it: Look at each expectation listed with its failing rows; correct the data, or the expectation.\n',
  );
  const machine = recordedTerminal();
  tellFailure(MillraceError.fromReport(report), machine, { json: true, debug: false });
  expect(JSON.parse(machine.out())).toEqual({ error: report });
});

test('--debug shows the stack, with what caused it', () => {
  const terminal = recordedTerminal();
  tellFailure(new MillraceError('INTERNAL', 'Broken.', { cause: new TypeError('deep inside') }), terminal, { json: false, debug: true });
  expect(terminal.err()).toMatch(/failure\.test\.ts/);
  expect(terminal.err()).toContain('caused by TypeError: deep inside');
});
