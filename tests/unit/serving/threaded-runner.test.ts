import { afterEach, expect, test } from 'vitest';
import { createRowReader, type PackedRows } from '../../../data/request-row.ts';
import { loadOnnxRunner, type ModelRunner } from '../../../serving/model-runner.ts';
import { startThreadedRunner } from '../../../serving/threaded-runner.ts';
import { expectedProbability, FLIGHT, FLIGHT_SIGNATURE, flightModel, type FlightRow } from '../../support/serving-fixture.ts';

const runners: ModelRunner[] = [];
afterEach(async () => {
  for (const runner of runners.splice(0)) await runner.close();
});

function packed(rows: readonly FlightRow[]): PackedRows {
  const reader = createRowReader(FLIGHT_SIGNATURE);
  const all = reader.allocate(rows.length);
  for (const [at, row] of rows.entries()) expect(reader.read(row, at, all, at)).toBeUndefined();
  return all;
}

async function start(model: Uint8Array, runs?: () => () => void): Promise<ModelRunner> {
  const runner = await startThreadedRunner(Buffer.from(model), FLIGHT_SIGNATURE, { runs });
  runners.push(runner);
  return runner;
}

test('a model on its own thread gives what it gives on this one, and requests that come while it runs are run together', async () => {
  const rows = Array.from({ length: 300 }, (_, i) => ({ ...FLIGHT, distance: i / 100, origin: i % 2 === 0 ? 'ATL' : null }));
  const all = packed(rows);
  let runs = 0;
  const runner = await start(flightModel(1), () => {
    runs += 1;
    return () => undefined;
  });
  const here = await loadOnnxRunner(flightModel(1), FLIGHT_SIGNATURE);
  const expected = await here.run(all, 0, rows.length);
  await here.close();
  // one alone; all others come while it runs: 256 rows at a time
  const outputs = await Promise.all(rows.map((_, row) => runner.run(all, row, 1)));
  expect(outputs.map(({ values, width }) => [width, values[0], values[1]])).toEqual(
    rows.map((_, row) => [2, expected.values[row * 2], expected.values[row * 2 + 1]]),
  );
  expect(outputs[7]?.values[1]).toBeCloseTo(expectedProbability(rows[7] ?? FLIGHT, 1), 5);
  expect(runs).toBe(3);
  const more = await runner.run(all, 0, 300);
  expect(Array.from(more.values)).toEqual(Array.from(expected.values));
});

test('a request that makes the model fail fails alone', async () => {
  // it looks its date up in a table of two
  const runner = await start(flightModel(1, { failing: true }));
  const at = (milliseconds: number): FlightRow => ({ ...FLIGHT, departed: new Date(milliseconds).toISOString() });
  const all = packed([at(0), at(0), at(86_400_000), at(0)]);
  const settled = await Promise.allSettled([0, 1, 2, 3].map((row) => runner.run(all, row, 1)));
  expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  expect(await runner.run(all, 3, 1)).toMatchObject({ width: 2 });
});

test('a file that is no model is refused as on this thread, and its thread ends', async () => {
  await expect(start(Buffer.from('nothing'))).rejects.toMatchObject({ code: 'MODEL_INVALID' });
});

test('one that was closed answers no more', async () => {
  const runner = await start(flightModel(1));
  await runner.close();
  await expect(runner.run(packed([FLIGHT]), 0, 1)).rejects.toMatchObject({ code: 'MODEL_CRASHED' });
});
