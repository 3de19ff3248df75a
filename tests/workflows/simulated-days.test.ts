import { describe, expect, it } from 'vitest';
import { simulateDays } from '../../bench/simulated-days.ts';
import { hasJava } from '../../bench/time-skipping-server.ts';
import { emptyDatabase } from '../support/database.ts';
// sets up the SDK's runtime
import './test-project.ts';

/** Where Temporal ends a history. */
const MOST_EVENTS = 51_200;
const MOST_BYTES = 50 * 1024 * 1024;

describe.skipIf(!hasJava())('days of an endpoint on the time-skipping server, with workers that are killed', () => {
  it('end with one champion, no lost trigger, and histories inside the limits', { timeout: 900_000 }, async () => {
    const days = 2;
    const found = await simulateDays({ days, seed: 7, databaseUrl: await emptyDatabase(), deaths: 4, retrainings: 4 });
    const { champions, triggers, windows, deaths, retrainings, rollouts, requests, histories } = found;

    expect(new Set(champions).size).toBe(1);
    expect(champions[0]).toBeGreaterThan(0);
    expect(found.challengers).toBe(0);

    // a program asks twice a day
    expect(triggers).toMatchObject({ lost: [], invented: [], miscounted: [] });
    expect(triggers.sent).toBeGreaterThanOrEqual((days * 24) / 12);
    expect(triggers.fates['serving']).toBeGreaterThan(0);
    expect(windows.measured).toBeGreaterThan(days * 12);

    expect(deaths.workflows + deaths.activities).toBeGreaterThan(1);
    expect(retrainings['completed']).toBeGreaterThan(1);
    expect(retrainings['failed']).toBeGreaterThan(0);
    expect(rollouts['completed']).toBeGreaterThan(1);
    expect(requests.asked).toBeGreaterThan(days * 12);
    expect(requests.failed).toBe(0);

    for (const { mostEvents, mostBytes } of histories) {
      expect(mostEvents).toBeLessThan(MOST_EVENTS / 10);
      expect(mostBytes).toBeLessThan(MOST_BYTES / 10);
    }
  });
});
