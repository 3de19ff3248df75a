import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { freePort } from '../stack/ports.ts';
import { startPostgres } from '../stack/postgres.ts';
import type { Benchmark, Figure } from './figure.ts';
import { simulateDays } from './simulated-days.ts';

const BENCH = 'simulate-days';
/** Where Temporal ends a history. */
const MOST_EVENTS = 51_200;
const MOST_MIB = 50;

/** Ninety days of an endpoint, hour by hour, with retrainings, rollouts and workers that are killed, on the time-skipping server. */
export const benchmark: Benchmark = {
  name: BENCH,
  summary: '90 simulated days with a monitor every hour, retrainings, rollouts and workers that die, on the time-skipping server (needs Java)',
  async run({ quick, emit }) {
    Runtime.install({ logger: new DefaultLogger('ERROR') });
    const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
    const postgres = await startPostgres({
      dataFolder: join(folder, 'postgres'),
      port: await freePort(),
      logFile: join(folder, 'postgres.log'),
      throwAway: true,
    });
    try {
      const days = quick ? 10 : 90;
      const found = await simulateDays({
        days,
        seed: 1,
        databaseUrl: postgres.url,
        deaths: quick ? 4 : 14,
        retrainings: quick ? 4 : 13,
      });
      const figure = (metric: string, value: number, unit: string, bar: Pick<Figure, 'better' | 'bar'> = {}): void => {
        emit({ bench: BENCH, metric, variant: `${String(days)} days`, value, unit, n: 1, min: value, max: value, ...bar, ...(quick ? { quick } : {}) });
      };
      const { deaths, triggers, windows, retrainings, rollouts, histories } = found;
      const total = (of: Readonly<Record<string, number>>): number => Object.values(of).reduce((sum, n) => sum + n, 0);
      figure('seconds', found.seconds, 's', { better: 'lower', bar: 120 });
      figure('champions', new Set(found.champions).size + found.challengers, 'versions', { better: 'lower', bar: 1 });
      figure('lost_triggers', triggers.lost.length + triggers.invented.length + triggers.miscounted.length, 'triggers', { better: 'lower', bar: 0 });
      figure('greatest_history', Math.max(...histories.map(({ mostEvents }) => mostEvents)), 'events', { better: 'lower', bar: MOST_EVENTS });
      figure('largest_history', Math.max(...histories.map(({ mostBytes }) => mostBytes)) / 1_024 ** 2, 'MiB', { better: 'lower', bar: MOST_MIB });
      figure('failed_requests', found.requests.failed, 'requests', { better: 'lower', bar: 0 });
      figure('killed_workers', total(deaths), 'processes', { better: 'higher', bar: quick ? 3 : 12 });
      figure('hours', found.hours + found.extraHours, 'hours');
      figure('windows', windows.measured, 'windows');
      figure('drifted_windows', windows.drifted, 'windows');
      figure('drift_triggers', windows.asked, 'triggers');
      figure('triggers', triggers.sent, 'triggers');
      figure('triggers_in_ledger', triggers.recorded, 'triggers');
      figure('retrainings', total(retrainings), 'runs');
      figure('retrainings_failed', retrainings['failed'] ?? 0, 'runs');
      figure('rollouts_completed', rollouts['completed'] ?? 0, 'rollouts');
      figure('rollouts_taken_back', rollouts['rolled_back'] ?? 0, 'rollouts');
    } finally {
      await postgres.stop();
      await rm(folder, { recursive: true, force: true });
    }
  },
};
