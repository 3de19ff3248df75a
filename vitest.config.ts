import { defineConfig } from 'vitest/config';

/**
 * One project a kind of test, by what it needs:
 * - `unit`, `replay`: nothing but Node. `npm run verify` runs these two.
 * - `python`: Python 3.9 or later; its packages are fetched on the first run (PyTorch's are 3 GB) and kept in the cache folder.
 * - `store`, `http`, `workflows`, `regression`: one Postgres and one Temporal server, which the global setup starts once
 *   and the projects share; each test file takes a database and ids of its own.
 * - `e2e`: the whole stack as child processes; what it waits for is mostly a process that was killed, so three files go at once.
 *
 * Groups run in that order, so that a broken formula is known before a server is started.
 */
const SECOND_MS = 1_000;
const servers = { globalSetup: ['tests/support/servers.ts'], testTimeout: 120 * SECOND_MS, hookTimeout: 180 * SECOND_MS, sequence: { groupOrder: 1 } };

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['tests/unit/**/*.test.ts', 'tests/architecture/**/*.test.ts'],
          testTimeout: 90 * SECOND_MS,
          hookTimeout: 90 * SECOND_MS,
        },
      },
      { extends: true, test: { name: 'replay', include: ['tests/replay/**/*.test.ts'], testTimeout: 60 * SECOND_MS, hookTimeout: 120 * SECOND_MS } },
      {
        extends: true,
        test: {
          name: 'python',
          include: ['tests/python/**/*.test.ts'],
          testTimeout: 1_800 * SECOND_MS,
          hookTimeout: 1_800 * SECOND_MS,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
      ...['store', 'http', 'workflows', 'regression'].map((name) => ({
        extends: true as const,
        test: { name, include: [`tests/${name}/**/*.test.ts`], ...servers },
      })),
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['tests/e2e/**/*.test.ts'],
          globalSetup: ['tests/support/servers.ts'],
          maxWorkers: 3,
          testTimeout: 300 * SECOND_MS,
          hookTimeout: 300 * SECOND_MS,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
