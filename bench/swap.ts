import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { packageRoot } from '../config/package-root.ts';
import { parseReadyLine } from '../config/ready.ts';
import { databaseUrl } from '../config/service-addresses.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import { freePort } from '../stack/ports.ts';
import { createTestEnvironment, type TestEnvironment } from '../testing/index.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { moduleCommand } from '../config/module-process.ts';
import { makeServeModel, serveModelPredictor } from './serve-model.ts';

const ENDPOINT = 'swap';
const PROCESSES = 2;
const CLIENTS = 16;
const ANSWER_WITHIN_MS = 10_000;
const TOLERANCE = 1e-5;

interface Published {
  readonly served: ServedVersion;
  /** Probability of `yes` for the first row. */
  readonly expected: number;
}

/** Versions that answer the same row differently, each with what it has to answer. */
async function publishVersions(
  { deps: { artifacts } }: TestEnvironment,
  count: number,
): Promise<{ readonly versions: readonly Published[]; readonly body: string }> {
  const versions: Published[] = [];
  const { rows, packed } = makeServeModel({ columns: 8, trees: 1, leaves: 2, seed: 1 });
  const [row = {}, sample = { numbers: [], dates: [], strings: [] }] = [rows[0], packed[0]];
  for (let version = 1; version <= count; version += 1) {
    const model = makeServeModel({ columns: 8, trees: 50, leaves: 16, seed: version });
    const session = await InferenceSession.create(model.onnx);
    const { output } = await session.run({
      numbers: new Tensor('float32', Float32Array.from(sample.numbers), [1, sample.numbers.length]),
      dates: new Tensor('int64', BigInt64Array.from(sample.dates, BigInt), [1, 1]),
      strings: new Tensor('string', [...sample.strings], [1, sample.strings.length]),
    });
    await session.release();
    const { sha256: predictor } = await artifacts.putJson(serveModelPredictor(model, await artifacts.putBytes(model.onnx)));
    versions.push({ served: { model: 'bench', version, predictor }, expected: Number(output?.data[1]) });
  }
  return { versions, body: JSON.stringify({ rows: [row] }) };
}

interface Load {
  on: boolean;
  requests: number;
  /** Answers other than 200, and none at all. */
  failed: number;
  /** Answers by a version that was replaced everywhere before the request was sent, or that are not that version's. */
  wrong: number;
  /** The version that all processes hold. */
  held: number;
}

function post(url: string, agent: Agent, body: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve) => {
    const failed = (): void => {
      resolve({ status: 0, text: '' });
    };
    const sent = request(url, { method: 'POST', agent, timeout: ANSWER_WITHIN_MS, headers: { 'content-type': 'application/json' } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text });
      });
      response.on('error', failed);
    });
    sent.on('timeout', () => sent.destroy());
    sent.on('error', failed);
    sent.end(body);
  });
}

async function client(url: string, agent: Agent, body: string, versions: readonly Published[], load: Load): Promise<void> {
  while (load.on) {
    const { held } = load;
    const { status, text } = await post(url, agent, body);
    load.requests += 1;
    if (status !== 200) {
      load.failed += 1;
      continue;
    }
    const { version, predictions } = JSON.parse(text) as { version: number; predictions: readonly { readonly probabilities: { readonly yes: number } }[] };
    const difference = Math.abs((predictions[0]?.probabilities.yes ?? Number.NaN) - (versions[version - 1]?.expected ?? Number.NaN));
    if (version < held || !(difference <= TOLERANCE)) load.wrong += 1;
  }
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const swaps = quick ? 20 : 100;
  const env = await createTestEnvironment({ project: join(packageRoot, 'bench', 'overhead-project') });
  const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS });
  const { store, config } = env.deps;
  const { versions, body } = await publishVersions(env, swaps + 1);
  const child = spawn(process.execPath, [...moduleCommand('../serving/main', import.meta.url)], {
    env: {
      ...process.env,
      DATABASE_URL: databaseUrl(config),
      MILLRACE_HOME: config.home,
      MILLRACE_ARTIFACTS: config.artifacts.url,
      MILLRACE_SERVING_PORT: String(await freePort()),
      MILLRACE_SERVING_PROCESSES: String(PROCESSES),
      MILLRACE_LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const publish = async (epoch: number): Promise<void> => {
      const champion = versions[epoch - 1]?.served;
      if (champion === undefined) throw new RangeError('There is no such version.');
      await store.endpoints.setRoute({
        route: { endpoint: ENDPOINT, epoch, champion, challenger: null, log: true },
        expectedEpoch: epoch - 1,
        rolloutId: null,
      });
      while ((await store.servers.holders({ endpoint: ENDPOINT, epoch })).holding < PROCESSES) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    let address: string | undefined;
    for await (const line of createInterface({ input: child.stdout })) {
      const ready = parseReadyLine(line);
      if (ready === undefined) continue;
      address = String(ready['url']);
      break;
    }
    if (address === undefined) throw new Error('the prediction server ended before it was ready');
    await publish(1);
    const load: Load = { on: true, requests: 0, failed: 0, wrong: 0, held: 1 };
    const clients = Array.from({ length: CLIENTS }, () => client(`${address}/predict/${ENDPOINT}`, agent, body, versions, load));
    const tookMs: number[] = [];
    for (let epoch = 2; epoch <= swaps + 1; epoch += 1) {
      const startedMs = performance.now();
      await publish(epoch);
      tookMs.push(performance.now() - startedMs);
      load.held = epoch;
    }
    load.on = false;
    await Promise.all(clients);
    const variant = `${swaps} swaps, ${load.requests} requests, ${PROCESSES} processes`;
    const more = quick ? { quick } : {};
    emit({ bench: 'swap', metric: 'failed_requests', variant, ...summarise([load.failed]), unit: 'requests', better: 'lower', bar: 0, ...more });
    emit({ bench: 'swap', metric: 'wrong_versions', variant, ...summarise([load.wrong]), unit: 'requests', better: 'lower', bar: 0, ...more });
    emit({ bench: 'swap', metric: 'swap_ms', variant, ...summarise(tookMs), unit: 'ms', better: 'lower', ...more });
  } finally {
    agent.destroy();
    if (child.exitCode === null && child.signalCode === null) {
      const closed = once(child, 'close');
      child.kill('SIGTERM');
      await closed;
    }
    await env.close();
  }
}

export const benchmark: Benchmark = {
  name: 'swap',
  summary: 'a new version every moment under full load: requests that failed, and answers of a version that was gone',
  run,
};
