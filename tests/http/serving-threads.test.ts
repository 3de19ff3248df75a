import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadOnnxRunner } from '../../serving/model-runner.ts';
import { type StartRunner, startThreadedRunner } from '../../serving/threaded-runner.ts';
import { expectedProbability, FLIGHT, flightModel, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

let bench: ServingBench;
beforeEach(async () => {
  bench = await openServingBench();
});
afterEach(async () => {
  await bench.close();
});

const ask = async (url: string, endpoint: string): Promise<number> => {
  const response = await fetch(`${url}/predict/${endpoint}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ rows: [FLIGHT] }),
  });
  expect(response.status).toBe(200);
  const { predictions } = (await response.json()) as { predictions: readonly { readonly probabilities: { readonly late: number } }[] };
  return predictions[0]?.probabilities.late ?? Number.NaN;
};

/** Publishes a large model beside a small one; how often the small one answered while the session of the large one was made. */
async function answersDuringLoad(start: StartRunner): Promise<number> {
  // a table of texts takes long to be read into a session, for its size
  const [small, large] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2, { bytes: flightModel(2, { cities: 250_000 }) })];
  let answered = 0;
  let during = 0;
  bench.store.routes = [bench.route('small', 1, small)];
  const { url } = await bench.serve({
    threads: {
      fromBytes: 24 * 1024 * 1024,
      async start(...of) {
        const before = answered;
        const runner = await start(...of);
        during = answered - before;
        return runner;
      },
    },
  });
  expect(await ask(url, 'small')).toBeCloseTo(expectedProbability(FLIGHT, 1), 5);
  bench.store.routes.push(bench.route('large', 1, large));
  bench.store.changed();
  while (bench.store.heartbeats.at(-1)?.holding.some(({ endpoint }) => endpoint === 'large') !== true) {
    await ask(url, 'small');
    answered += 1;
  }
  expect(await ask(url, 'large')).toBeCloseTo(expectedProbability(FLIGHT, 2), 5);
  return during;
}

test('while a large model is read into its session, other endpoints answer on: it has a thread of its own', async () => {
  expect(await answersDuringLoad(startThreadedRunner)).toBeGreaterThan(20);
});

test('on the thread of requests nobody would be answered meanwhile', async () => {
  expect(await answersDuringLoad((model, signature) => loadOnnxRunner(model, signature))).toBeLessThan(5);
});

test('a load that is waited for goes before those that are not, and of those that nobody wants any more nothing is left', async () => {
  const loaded: number[] = [];
  let go: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (go = resolve));
  const versions = [];
  for (let i = 0; i < 4; i += 1) versions.push(await publishVersion(bench.artifacts, i + 1));
  const { url } = await bench.serve({
    threads: {
      fromBytes: 0,
      async start(model, signature, options) {
        loaded.push([1, 2, 3, 4].findIndex((bias) => model.equals(flightModel(bias))));
        await held;
        return startThreadedRunner(model, signature, options);
      },
    },
  });
  bench.store.routes = versions.map((version, i) => bench.route(`e-${i}`, 1, version));
  bench.store.changed();
  while (loaded.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const asked = ask(url, 'e-3');
  // one endpoint goes while its load waits, another while it is under way
  bench.store.routes = bench.store.routes.filter(({ endpoint }) => endpoint !== 'e-2' && endpoint !== 'e-0');
  bench.store.changed();
  while (/"e-[02]"/.test(await (await fetch(`${url}/v2/models`)).text())) await new Promise((resolve) => setTimeout(resolve, 5));
  go();
  expect(await asked).toBeCloseTo(expectedProbability(FLIGHT, 4), 5);
  while (bench.store.heartbeats.at(-1)?.holding.length !== 2) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(loaded).toEqual([0, 3, 1]);
  while (!(await (await fetch(`${url}/metrics`)).text()).includes('\nmillrace_models_loaded 2\n')) await new Promise((resolve) => setTimeout(resolve, 5));
});
