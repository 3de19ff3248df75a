import { expect, test } from 'vitest';
import { parseDurationMs, parseInstant } from '../../../cli/duration.ts';
import { newWorkflowId } from '../../../cli/run-command.ts';
import { cacheText, trialLines } from '../../../cli/runs-commands.ts';
import { shortestInterval } from '../../../contracts/catch-up.ts';

const RUN = '0123456789abcdef0123456789abcdef';

test('a stage says whether it was taken over and from where, or what differed', () => {
  const stage = { status: 'completed', cachedFrom: null, missReason: null } as const;
  expect(cacheText({ ...stage, cachedFrom: { runId: RUN, stage: 'ingest' } })).toBe('hit: from run 0123456789ab, stage ingest');
  expect(cacheText({ ...stage, missReason: { kind: 'first' } })).toBe('miss: no earlier result');
  expect(cacheText({ ...stage, missReason: { kind: 'notAsked' } })).toBe('miss: the cache was not asked');
  expect(cacheText({ ...stage, missReason: { kind: 'differs', fromRunId: RUN, parts: ['code'] } })).toBe('miss: code differs from run 0123456789ab');
  expect(cacheText({ ...stage, missReason: { kind: 'differs', fromRunId: RUN, parts: ['code', 'inputs.source'] } })).toBe(
    'miss: code, inputs.source differ from run 0123456789ab',
  );
  expect(cacheText(stage)).toBe('');
});

test('a workflow id says what runs and since when', () => {
  expect(newWorkflowId('flightDelay', new Date('2026-11-20T22:16:42.123Z'))).toMatch(/^flightDelay-20261120-221642-[0-9a-f]{4}$/);
});

test('the catch-up window of a cron schedule is the shortest time between its next starts', () => {
  expect(shortestInterval([new Date(0), new Date(5_000), new Date(7_000)])).toBe(2_000);
  expect(shortestInterval([new Date(0)])).toBeUndefined();
});

test.each([
  ['30s', 30_000],
  ['15 minutes', 900_000],
  ['1.5h', 5_400_000],
  ['2 days', 172_800_000],
])('%s is %d ms', (text, ms) => {
  expect(parseDurationMs('--every', text)).toBe(ms);
});

test.each(['5', '0s', '-1h', '1 fortnight', ''])('"%s" is no duration', (text) => {
  expect(() => parseDurationMs('--every', text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test('a time without a zone is UTC', () => {
  expect(parseInstant('--from', '2026-01-31T08:00:00').toISOString()).toBe('2026-01-31T08:00:00.000Z');
  expect(parseInstant('--from', '2026-01-31').toISOString()).toBe('2026-01-31T00:00:00.000Z');
  expect(parseInstant('--from', '2026-01-31T08:00:00+02:00').toISOString()).toBe('2026-01-31T06:00:00.000Z');
  expect(() => parseInstant('--from', 'yesterday')).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test('trials are listed in the order of their numbers, each with its result or its reason', () => {
  const record = { kind: 'trial', status: 'completed', output: { summary: 'gbdt: auc 0.8' }, error: null } as const;
  const error = { code: 'TRAINING_DIVERGED', message: 'The loss became NaN.', fix: '', problems: [] } as const;
  expect(
    trialLines([
      { ...record, name: 'tune-trial-10' },
      { ...record, name: 'tune-trial-9', status: 'failed', output: null, error },
      { ...record, name: 'tune', kind: 'tune' },
    ]),
  ).toEqual([
    ['tune-trial-9', 'failed', 'TRAINING_DIVERGED: The loss became NaN.'],
    ['tune-trial-10', 'completed', 'gbdt: auc 0.8'],
  ]);
});
