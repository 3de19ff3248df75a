import { expect, it } from 'vitest';
import { outcomeOf } from '../../../activities/retraining-outcome.ts';
import type { ErrorCode } from '../../../contracts/errors.ts';
import type { RunRecord } from '../../../store/runs.ts';

const at = (second: number): string => new Date(Date.UTC(2026, 0, 1) + second * 1_000).toISOString();
const ms = (second: number): number => Date.parse(at(second));
const run = (status: RunRecord['status'], more: Partial<RunRecord> = {}) =>
  ({ id: 'a'.repeat(32), status, createdAt: at(0), startedAt: at(10), endedAt: at(110), error: null, ...more }) as RunRecord;
const failed = (code: ErrorCode) => run('failed', { error: { code, message: 'it is so', problems: [], fix: null } as unknown as RunRecord['error'] });
const gate = (from: number, to: number | null) => ({ requestedAt: at(from), settledAt: to === null ? null : at(to) });
type Rollout = Parameters<typeof outcomeOf>[2][number];
const rollout = (from: number, to: number | null, status: Rollout['status'] = 'completed', version = 2): Rollout => ({
  status,
  createdAt: at(from),
  endedAt: to === null ? null : at(to),
  model: 'm',
  version,
  endpoint: 'e',
});

it('ends when its version serves; gates and rollouts that overlap count once, as rollout', () => {
  expect(outcomeOf(run('completed'), [gate(20, 40), gate(30, 50), gate(75, 85)], [rollout(60, 80)])).toEqual({
    fate: 'serving',
    because: 'm 2 serves at e',
    runId: 'a'.repeat(32),
    beganMs: ms(10),
    endedMs: ms(80),
    rolloutMs: 20_000,
    gatesMs: 30_000,
  });
  // of two rollouts the last one says what serves
  expect(outcomeOf(run('completed'), [], [rollout(60, 70), rollout(70, 100, 'completed', 3)])).toMatchObject({ because: 'm 3 serves at e', rolloutMs: 40_000 });
});

it('completed and brought nothing into service where no rollout completed', () => {
  expect(outcomeOf(run('completed'), [], [])).toMatchObject({ fate: 'completed', endedMs: ms(110), gatesMs: 0, rolloutMs: 0 });
  expect(outcomeOf(run('completed'), [], [rollout(60, 80, 'rolled_back')])).toMatchObject({ fate: 'completed', rolloutMs: 20_000 });
});

it.each(['GATE_REJECTED', 'GATE_EXPIRED', 'ACCEPTANCE_FAILED', 'ROLLED_BACK'] as const)(
  'was rejected by %s, whatever had been in service for a while',
  (code) => {
    expect(outcomeOf(failed(code), [gate(20, null)], [rollout(30, 40)])).toMatchObject({
      fate: 'rejected',
      because: `${code}: it is so`,
      endedMs: ms(110),
      rolloutMs: 10_000,
      gatesMs: 80_000,
    });
  },
);

it('failed by what broke, and was cancelled by who ended it', () => {
  expect(outcomeOf(failed('SOURCE_NOT_FOUND'), [], [])).toMatchObject({ fate: 'failed', because: 'SOURCE_NOT_FOUND: it is so' });
  expect(outcomeOf(run('failed'), [], [])).toMatchObject({ fate: 'failed', because: 'its run failed' });
  expect(outcomeOf(run('terminated'), [], [])).toMatchObject({ fate: 'cancelled', because: 'its run was terminated' });
});

it('that ended before it began took no time', () => {
  expect(outcomeOf(run('cancelled', { startedAt: null, endedAt: at(-5) }), [gate(-9, -6)], [])).toMatchObject({ beganMs: ms(0), endedMs: ms(0), gatesMs: 0 });
});
