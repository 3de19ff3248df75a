import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { loadConfig } from '../config/config.ts';
import { packageRoot } from '../config/package-root.ts';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { freePort } from '../stack/ports.ts';
import { startStack } from '../stack/stack.ts';
import { BARE_WORKFLOWS } from './bare-queues.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';

const BAR = 1.5;

/** Seven no-op stages in a row, and a hundred at once, beside as many bare activities on the same server, in turns. */
export const benchmark: Benchmark = {
  name: 'stage-overhead',
  summary: 'seven no-op stages in a row, and 100 at once, against bare Temporal activities on the same server',
  run: async ({ quick, emit }) => {
    const home = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
    const ports = await Promise.all(Array.from({ length: 5 }, () => freePort()));
    const [temporal, ui, postgres, api, serving] = ports.map(String);
    const config = loadConfig({
      cwd: join(packageRoot, 'bench', 'overhead-project'),
      env: {
        ...process.env,
        MILLRACE_HOME: home,
        MILLRACE_TEMPORAL_PORT: temporal,
        MILLRACE_TEMPORAL_UI_PORT: ui,
        MILLRACE_POSTGRES_PORT: postgres,
        MILLRACE_API_PORT: api,
        MILLRACE_SERVING_PORT: serving,
      },
    });
    const stack = await startStack({ config, parts: ['postgres', 'temporal', 'orchestrator', 'cpu-worker'] });
    const bareWorker = await startBareWorker(config.temporal.address, config.pools['cpu']?.slots);
    const connection = await Connection.connect({ address: config.temporal.address });
    try {
      const client = new Client({ connection, namespace: config.temporal.namespace });
      await compare(client, 'sequential', { stages: 7, atOnce: false }, quick ? 10 : 30, { quick, emit });
      await compare(client, 'fanout', { stages: 100, atOnce: true }, quick ? 3 : 10, { quick, emit });
    } finally {
      await connection.close();
      const ended = once(bareWorker, 'exit');
      bareWorker.kill('SIGTERM');
      await ended;
      await stack.stop();
      await rm(home, { recursive: true, force: true });
    }
  },
};

async function compare(
  client: Client,
  metric: string,
  input: { stages: number; atOnce: boolean },
  n: number,
  { quick, emit }: BenchmarkOptions,
): Promise<void> {
  const time = async (type: string, taskQueue: string): Promise<number> => {
    const started = performance.now();
    await client.workflow.execute(type, { workflowId: `${type}-${randomBytes(6).toString('hex')}`, taskQueue, args: [input] });
    return performance.now() - started;
  };
  const ours = () => time('noopStages', WORKFLOW_QUEUE);
  const bare = () => time('bare', BARE_WORKFLOWS);
  for (let warm = 0; warm < 3; warm++) {
    await ours();
    await bare();
  }
  const mine: number[] = [];
  const theirs: number[] = [];
  for (let i = 0; i < n; i++) {
    mine.push(await ours());
    theirs.push(await bare());
  }
  const { value, min, max } = summarise(mine);
  const peer = summarise(theirs).value;
  emit({
    bench: 'stage-overhead',
    metric,
    variant: `${String(input.stages)} stages`,
    value,
    unit: 'ms',
    n,
    min,
    max,
    peer: 'temporal',
    peerValue: peer,
    ratio: value / peer,
    better: 'lower',
    bar: BAR,
    ...(quick ? { quick } : {}),
  });
}

async function startBareWorker(address: string, slots: number | 'devices' | undefined): Promise<ChildProcess> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const child = spawn(process.execPath, [fileURLToPath(new URL(`./bare-worker.${extension}`, import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TEMPORAL_ADDRESS: address, BARE_SLOTS: String(slots ?? 2) },
  });
  await once(child.stdout, 'data');
  return child;
}
