import { type ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { toActivityFailure } from '../../../activities/failure.ts';
import { MillraceError } from '../../../contracts/errors.ts';

const convert = (error: unknown, attempt = 1): { readonly failure: ApplicationFailure | CancelledFailure; readonly logged: readonly unknown[] } => {
  const logged: unknown[] = [];
  return { failure: toActivityFailure(error, attempt, (original) => logged.push(original)), logged };
};

describe('what leaves an activity', () => {
  it('is code, message and problems, and is not tried again when that cannot help', () => {
    const error = new MillraceError('SOURCE_EMPTY', 'flights.csv has no rows.', { problems: [{ path: 'source', message: 'is empty' }] });
    const { failure, logged } = convert(error);
    expect(failure).toMatchObject({ type: 'SOURCE_EMPTY', message: 'flights.csv has no rows.', nonRetryable: true, details: [error.report()] });
    expect(logged).toEqual([]);
  });

  it('may be tried again when a service is away', () => {
    expect(convert(new MillraceError('DATABASE_UNAVAILABLE')).failure).toMatchObject({ nonRetryable: false });
  });

  it('never holds what a driver said: that is logged', () => {
    const driver = new Error('password authentication failed for user "postgres" at 10.0.0.7');
    const { failure, logged } = convert(new MillraceError('INTERNAL', 'The record could not be written.', { cause: driver }));
    expect(JSON.stringify(failure)).not.toContain('password');
    expect(failure.cause).toBeUndefined();
    expect((logged[0] as Error).cause).toBe(driver);
    const unknown = convert(driver);
    expect(unknown.failure.message).not.toContain('password');
    expect(unknown.logged).toEqual([driver]);
  });

  it('is not tried for ever when nobody foresaw it', () => {
    expect(convert(new Error('odd'), 1).failure).toMatchObject({ type: 'INTERNAL', nonRetryable: false });
    expect(convert(new Error('odd'), 3).failure).toMatchObject({ type: 'INTERNAL', nonRetryable: true });
  });

  it('tells a full disk and a heap that ran over from other failures', () => {
    expect(convert(Object.assign(new Error('write'), { code: 'ENOSPC' })).failure).toMatchObject({ type: 'DISK_FULL' });
    expect(convert(Object.assign(new Error('heap'), { code: 'ERR_WORKER_OUT_OF_MEMORY' })).failure).toMatchObject({ type: 'OUT_OF_MEMORY' });
  });

  it('is a cancellation as it is', () => {
    const cancelled = new CancelledFailure('stop');
    expect(convert(cancelled).failure).toBe(cancelled);
  });
});
