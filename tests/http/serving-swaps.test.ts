import { Agent, request } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freshStore } from '../support/database.ts';
import { expectedProbability, FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';
import { type ServingProcess, startServingProcess } from '../support/serving-process.ts';

const SWAPS = 100;
const biasOf = (version: number): number => (version - 50) / 25;

let bench: ServingBench;
let store: Awaited<ReturnType<typeof freshStore>>;
const servers: ServingProcess[] = [];
const agent = new Agent({ keepAlive: true });

beforeAll(async () => {
  bench = await openServingBench();
  store = await freshStore();
});
afterAll(async () => {
  agent.destroy();
  for (const server of servers) await server.stop();
  await bench.close();
});

function predict(url: string, body: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/predict/flights`, { method: 'POST', agent, headers: { 'content-type': 'application/json' } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

test('a hundred swaps under load, at two servers with their own processes, lose no request and give no answer of a version that was gone', async () => {
  const versions = await Promise.all(Array.from({ length: SWAPS + 1 }, (_, i) => publishVersion(bench.artifacts, i + 1, { bias: biasOf(i + 1) })));
  const publish = async (epoch: number): Promise<void> => {
    const champion = versions[epoch - 1];
    if (champion === undefined) throw new RangeError('There is no such version.');
    await store.endpoints.setRoute({ route: bench.route('flights', epoch, champion), expectedEpoch: epoch - 1, rolloutId: null });
  };
  const heldByBoth = async (epoch: number): Promise<void> => {
    while ((await store.servers.holders({ endpoint: 'flights', epoch })).holding < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  await publish(1);
  const home = { databaseUrl: store.databaseUrl, env: { MILLRACE_ARTIFACTS: `file://${bench.artifacts.root}` } };
  servers.push(...(await Promise.all(['a', 'b'].map((name) => startServingProcess({ ...home, home: `${bench.home}/${name}` })))));
  await heldByBoth(1);

  const load = { on: true, published: 1, held: 1 };
  const seen = new Set<string>();
  const wrong: string[] = [];
  let answered = 0;
  const clients = Array.from({ length: 6 }, async (_, client) => {
    const { url = '' } = servers[client % 2] ?? {};
    for (let i = 0; load.on; i += 1) {
      const row = { ...FLIGHT, distance: ((client * 31 + i) % 100) / 100 };
      const { held } = load;
      const { status, text } = await predict(url, JSON.stringify({ rows: [row] }));
      answered += 1;
      if (status !== 200) {
        wrong.push(`${String(status)} ${text}`);
        continue;
      }
      const { version, predictions } = JSON.parse(text) as { version: number; predictions: readonly { readonly probabilities: { readonly late: number } }[] };
      seen.add(`${String(client % 2)} ${String(version)}`);
      const difference = Math.abs((predictions[0]?.probabilities.late ?? Number.NaN) - expectedProbability(row, biasOf(version)));
      if (version < held || version > load.published || !(difference < 1e-5))
        wrong.push(`version ${String(version)} while ${String(held)} was held and ${String(load.published)} published, off by ${String(difference)}`);
    }
  });
  for (let epoch = 2; epoch <= SWAPS + 1; epoch += 1) {
    load.published = epoch;
    await publish(epoch);
    await heldByBoth(epoch);
    load.held = epoch;
  }
  load.on = false;
  await Promise.all(clients);
  expect(wrong).toEqual([]);
  expect(answered).toBeGreaterThan(SWAPS);
  // both served nearly every version; one may be replaced before anybody asked for it
  for (const server of ['0', '1']) expect([...seen].filter((one) => one.startsWith(server)).length).toBeGreaterThan(SWAPS / 2);
});
