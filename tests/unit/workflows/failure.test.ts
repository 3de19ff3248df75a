import { ActivityFailure, ApplicationFailure, CancelledFailure, TimeoutFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { isRunCancelled, reportOf, toWorkflowFailure } from '../../../workflows/failure.ts';

const activity = (cause: Error): ActivityFailure => new ActivityFailure('Activity task failed', 'runStage', '7', 'NON_RETRYABLE_FAILURE', 'millrace', cause);
const problems = [{ path: 'target', message: 'is not a column' }];

describe('what leaves a workflow', () => {
  it('is the report of the error that began it, through every wrapper', () => {
    const report = new MillraceError('COLUMN_MISSING', 'There is no column late.', { problems }).report();
    const failure = toWorkflowFailure(activity(ApplicationFailure.create({ type: report.code, message: report.message, details: [report] })));
    expect(failure).toMatchObject({ type: 'COLUMN_MISSING', message: 'There is no column late.', nonRetryable: true, details: [report] });
  });

  it('names the error of a pipeline’s own code, and keeps its message', () => {
    expect(reportOf(new TypeError('x is not a function'))).toMatchObject({
      code: 'USER_CODE_FAILED',
      message: expect.stringContaining('TypeError: x is not a function') as string,
    });
    expect(reportOf(ApplicationFailure.create({ type: 'SomethingElse', message: 'thrown by hand' }))).toMatchObject({
      code: 'USER_CODE_FAILED',
      message: 'thrown by hand',
    });
  });

  it('says of work that ran out of time what to do', () => {
    const report = reportOf(activity(new TimeoutFailure('activity timed out', undefined, 'HEARTBEAT')));
    expect(report.message).toContain('HEARTBEAT');
    expect(report.fix).toContain('more time');
  });

  it('is a cancellation as it is, and only the run’s own counts as one', () => {
    const cancelled = new CancelledFailure('cancelled');
    expect(toWorkflowFailure(cancelled)).toBe(cancelled);
    expect(isRunCancelled(cancelled)).toBe(true);
    expect(isRunCancelled(activity(cancelled))).toBe(true);
    expect(isRunCancelled(activity(ApplicationFailure.create({ message: 'broken' })))).toBe(false);
    expect(isRunCancelled(new Error('broken'))).toBe(false);
  });
});
