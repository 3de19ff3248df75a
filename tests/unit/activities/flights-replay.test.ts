/** A few days of real flights as an endpoint's traffic; `npm run bench -- flights-drift` replays five months. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { flightsPath } from '../../../bench/flights-passes.ts';
import { FAULTS, type Replay, replayFlights } from '../../../bench/flights-replay.ts';

let folder: string;
let replay: Replay;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-flights-'));
  replay = await replayFlights({
    source: flightsPath(),
    folder: join(folder, 'replay'),
    percent: 10,
    everyMs: 24 * 3_600_000,
    trainFrom: '2001-01-01T00:00:00.000Z',
    from: '2001-01-31T00:00:00.000Z',
    to: '2001-02-03T00:00:00.000Z',
    faultEvery: 3,
    leastRows: 100,
  });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('finds quiet windows steady', () => {
  expect(replay.windows.map(({ from, verdict }) => [from.slice(5, 13), verdict])).toEqual([
    ['01-31T00', 'steady'],
    ['02-01T00', 'steady'],
    ['02-02T00', 'steady'],
  ]);
});

it('finds each fault in the window that it begins in, and names its column', () => {
  expect(replay.faults.map(({ fault, isFound }) => [fault, isFound])).toEqual(FAULTS.map(({ name }) => [name, true]));
  expect(replay.faults.map(({ drifted, failed }) => [drifted, failed])).toEqual([
    // a few are longer than 6,000: a warning
    [['distance'], ['distance']],
    [['origin'], ['origin']],
    [['destination'], []],
    [expect.any(Array), ['destination']],
  ]);
});

it('judges a window by the labels that had come, and again when the last ones are there', () => {
  for (const { rows, labelledAtOnce, labelled, auc } of replay.windows) {
    expect(labelledAtOnce).toBeLessThan(rows);
    expect(labelled).toBe(rows);
    expect(auc).toBeGreaterThan(0.5);
  }
});
