import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { httpPost } from '../activities/http-wire.ts';
import { moduleCommand } from '../config/module-process.ts';
import { createArtifacts } from '../store/artifacts.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { type HttpLoadResult, measureHttpLoad } from './http-load.ts';
import { makeServeModel, serveModelPredictor } from './serve-model.ts';

const HOST = '127.0.0.1';
const BAR_AT_16 = 0.7;

interface ServerProcess {
  readonly child: ChildProcess;
  readonly port: number;
}

async function startServer(name: string, args: readonly string[]): Promise<ServerProcess> {
  const child = spawn(process.execPath, [...moduleCommand(`./${name}`, import.meta.url), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, 'close').then(() => {
    throw new Error(`${name} ended before it listened`);
  });
  const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
  // Its end is expected from now on.
  ended.catch(() => undefined);
  return { child, port: (JSON.parse(line) as { port: number }).port };
}

async function stopServer({ child }: ServerProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  await closed;
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const repetitions = quick ? 2 : 5;
  const seconds = quick ? 1 : 3;
  const model = makeServeModel({ columns: 14, trees: 100, leaves: 31, seed: 7 });
  const home = await mkdtemp(join(tmpdir(), 'millrace-bench-serve-'));
  const servers: ServerProcess[] = [];
  try {
    const artifacts = createArtifacts({ root: join(home, 'artifacts') });
    const onnx = await artifacts.putBytes(model.onnx);
    const { sha256: predictor } = await artifacts.putJson(serveModelPredictor(model, onnx));
    const modelPath = join(home, 'model.onnx');
    await writeFile(modelPath, model.onnx);
    const ours = await startServer('serve-millrace-process', [home, JSON.stringify({ model: 'bench', version: 1, predictor }), 'true']);
    servers.push(ours);
    const bare = await startServer('serve-bare-process', [modelPath]);
    servers.push(bare);
    const oursRequests = model.rows.map((row) => httpPost('/predict/bench', HOST, JSON.stringify({ rows: [row] })));
    const bareRequests = model.packed.map(({ numbers, dates, strings }) =>
      httpPost('/predict', HOST, JSON.stringify({ numbers: [numbers], dates: [dates], strings: [strings] })),
    );

    for (const concurrency of [1, 16, 64]) {
      const results: Record<'ours' | 'bare', HttpLoadResult[]> = { ours: [], bare: [] };
      for (let i = 0; i < repetitions; i += 1) {
        // In turn, and each first every other time: what else the machine does meets both alike.
        for (const who of i % 2 === 0 ? (['ours', 'bare'] as const) : (['bare', 'ours'] as const)) {
          const load = {
            host: HOST,
            port: (who === 'ours' ? ours : bare).port,
            requests: who === 'ours' ? oursRequests : bareRequests,
            concurrency,
            seconds,
            warmUpSeconds: quick ? 0.5 : 1,
          };
          const result = await measureHttpLoad(load);
          if (result.failed > 0) throw new Error(`${result.failed} requests failed (${who})`);
          results[who].push(result);
        }
      }
      const figure = (metric: string, unit: string, better: 'lower' | 'higher', read: (result: HttpLoadResult) => number, bar?: number): void => {
        const mine = summarise(results.ours.map(read));
        const peerValue = summarise(results.bare.map(read)).value;
        emit({
          bench: 'serve',
          metric,
          unit,
          variant: '14 raw columns, one row',
          ...mine,
          peer: 'bare',
          peerValue,
          ratio: mine.value / peerValue,
          better,
          ...(bar === undefined ? {} : { bar }),
          ...(quick ? { quick } : {}),
        });
      };
      figure(`requests_per_second_c${concurrency}`, 'requests/s', 'higher', (r) => r.requestsPerSecond, concurrency === 16 ? BAR_AT_16 : undefined);
      figure(`p99_ms_c${concurrency}`, 'ms', 'lower', (r) => r.p99Ms);
    }
  } finally {
    for (const server of servers) await stopServer(server);
    await rm(home, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'serve',
  summary: 'one row over HTTP: the whole prediction server, logging on, beside a bare Fastify + onnxruntime-node server on the same model file',
  run,
};
