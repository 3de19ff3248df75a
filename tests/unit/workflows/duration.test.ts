import { describe, expect, it } from 'vitest';
import { type Duration, durationMs } from '../../../workflows/duration.ts';

describe('durationMs', () => {
  it.each<[Duration, number]>([
    [0, 0],
    [1_500, 1_500],
    ['250 ms', 250],
    ['30 seconds', 30_000],
    ['1 minute', 60_000],
    ['1.5 hours', 5_400_000],
    ['3 days', 259_200_000],
  ])('takes %s for %d ms', (duration, ms) => {
    expect(durationMs(duration)).toBe(ms);
  });

  it.each(['-1 hours', '5 weeks', 'soon', ''])('refuses "%s", and says what to write', (duration) => {
    expect(() => durationMs(duration as Duration)).toThrow(
      expect.objectContaining({ code: 'INVALID_PARAMETERS', fix: expect.stringContaining('minutes') as string }) as Error,
    );
  });
});
