import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { updateEndpoint } from '../activities/endpoint-client.ts';
import { packageRoot } from '../config/package-root.ts';
import { databaseUrl } from '../config/service-addresses.ts';
import { RolloutStrategySchema } from '../contracts/rollouts.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import { createPredictionServer } from '../serving/server.ts';
import { listenRoutes } from '../store/listen-routes.ts';
import { createTestEnvironment, type TestEnvironment } from '../testing/index.ts';
import { type BenchmarkOptions, summarise } from './figure.ts';
import { makeServeModel, serveModelPredictor } from './serve-model.ts';

const ENDPOINT = 'take-back';
const BAR_MS = 2_000;
const SECOND_MS = 1_000;

/**
 * From the figures that break a guard being in Postgres until the prediction server gives the challenger nothing: a real endpoint
 * workflow, its watch, the route that it publishes, and a server that hears of it. The figures are told by a second server.
 */
export async function measureTakeBack({ quick, emit }: BenchmarkOptions): Promise<void> {
  const env = await createTestEnvironment({ project: join(packageRoot, 'bench', 'overhead-project') });
  try {
    const { store, artifacts, config } = env.deps;
    const model = makeServeModel({ columns: 5, trees: 5, leaves: 4, seed: 3 });
    const { sha256: predictor } = await artifacts.putJson(serveModelPredictor(model, await artifacts.putBytes(model.onnx)));
    const server = createPredictionServer({
      serverId: 'bench',
      host: '127.0.0.1',
      port: 0,
      home: config.home,
      serverVersion: '0.0.0',
      routes: {
        listRoutes: () => store.endpoints.listRoutes(),
        listen: (onChange) => listenRoutes({ databaseUrl: databaseUrl(config), onChange }),
      },
      registry: store.servers,
      stats: store.stats,
      artifacts,
      log: () => undefined,
    });
    const { url } = await server.start();
    try {
      await rollOut(env, { model: 'bench', version: 1, predictor });
      await until(() => answers(url, 1));
      const samples: number[] = [];
      for (let version = 2; version < (quick ? 5 : 22); version++) samples.push(await takenBack(env, url, { model: 'bench', version, predictor }));
      emit({ bench: 'guards', metric: 'taken_back', ...summarise(samples), unit: 'ms', better: 'lower', bar: BAR_MS, ...(quick ? { quick } : {}) });
    } finally {
      await server.stop();
    }
  } finally {
    await env.close();
  }
}

async function rollOut({ deps }: TestEnvironment, version: ServedVersion): Promise<void> {
  const rollout = randomBytes(16).toString('hex');
  const strategy = RolloutStrategySchema.parse({ kind: 'canary', percent: [25], bakeMs: 600_000 });
  await deps.store.rollouts.create({ id: rollout, endpoint: ENDPOINT, model: version.model, version: version.version, strategy });
  await updateEndpoint(deps, ENDPOINT, 'rollout', { rollout, version, strategy, workflowId: null, reason: 'measured' });
}

/** Whether the version is in service on the server. */
const answers = async (url: string, version: number): Promise<boolean> => {
  const response = await fetch(`${url}/v2/models/${ENDPOINT}/versions/${String(version)}/ready`);
  await response.arrayBuffer();
  return response.ok;
};

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(5);
}

async function takenBack(env: TestEnvironment, url: string, version: ServedVersion): Promise<number> {
  const { store } = env.deps;
  await rollOut(env, version);
  await until(() => answers(url, version.version));
  // the watch begins when every server has the version, and looks each second: anywhere between two looks
  await sleep(1_500 + Math.random() * SECOND_MS);
  const from = new Date(Math.floor(Date.now() / SECOND_MS) * SECOND_MS).toISOString();
  const told = { server: 'another', endpoint: ENDPOINT, model: version.model, from, latencyMsSum: 100, latencyMsMax: 1 };
  await store.stats.add([
    { ...told, version: 1, requests: 75, errors: 0 },
    { ...told, version: version.version, requests: 25, errors: 25 },
  ]);
  const started = performance.now();
  await until(async () => !(await answers(url, version.version)));
  return performance.now() - started;
}
