import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { httpPost } from '../activities/http-wire.ts';
import { moduleCommand } from '../config/module-process.ts';
import { freePort } from '../stack/ports.ts';
import { createArtifacts } from '../store/artifacts.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { type HttpLoadResult, measureHttpLoad } from './http-load.ts';
import { ensurePythonEnvironment } from './python-environment.ts';
import { makeServeModel, serveModelPredictor } from './serve-model.ts';

const HOST = '127.0.0.1';
const BAR = 0.85;
const BAR_LOGGING = 0.9;
const BAR_FASTAPI = 3;
const BAR_MLSERVER = 20;
const READY_ATTEMPTS = 300;
const READY_EVERY_MS = 200;

/** What a row has. Numbers alone are what FastAPI and MLServer are asked: texts cost them more. */
const SHAPES = [
  { columns: 14, kinds: 'numbers' },
  { columns: 14, kinds: 'mixed' },
  { columns: 100, kinds: 'mixed' },
] as const;

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

/** The same model file behind FastAPI, as its users write it: one process, tensors in, tensors out. */
const FASTAPI_APP = `
import sys
import numpy as np, onnxruntime as ort, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
app = FastAPI()

class Rows(BaseModel):
    numbers: list[list[float]]

@app.post("/predict")
async def predict(rows: Rows):
    return {"output": session.run(["output"], {"numbers": np.asarray(rows.numbers, np.float32)})[0].tolist()}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
`;

/** The same behind MLServer, in its own process (no worker processes), as a runtime of one's own. */
const MLSERVER_RUNTIME = `
import numpy as np, onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class OnnxModel(MLModel):
    async def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        numbers = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", self.session.run(["output"], {"numbers": numbers})[0])])
`;

const FASTAPI_REQUIREMENTS = ['fastapi==0.165.0', 'uvicorn[standard]==0.54.0', 'onnxruntime==1.30.0', 'numpy==2.4.6'];
const MLSERVER_REQUIREMENTS = ['mlserver==1.7.1', 'uvloop==0.21.0', 'onnxruntime==1.30.0', 'numpy==2.4.6'];

/** Waits until `path` answers 200. */
async function untilReady(port: number, path: string, method: 'GET' | 'POST', body?: string): Promise<void> {
  for (let attempt = 0; attempt < READY_ATTEMPTS; attempt += 1) {
    const answer = await fetch(`http://${HOST}:${String(port)}${path}`, {
      method,
      ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
    }).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, READY_EVERY_MS));
  }
  throw new Error(`nothing answers at ${path}`);
}

interface Target {
  readonly port: number;
  readonly requests: readonly string[];
}
type Targets = Readonly<Record<string, Target>>;

/** In turn, and each first every other time: what else the machine does meets all alike. */
async function inTurn(targets: Targets, concurrency: number, quick: boolean): Promise<Readonly<Record<string, readonly HttpLoadResult[]>>> {
  const names = Object.keys(targets);
  const results: Record<string, HttpLoadResult[]> = Object.fromEntries(names.map((name) => [name, []]));
  for (let i = 0; i < (quick ? 2 : 5); i += 1) {
    for (const name of i % 2 === 0 ? names : names.toReversed()) {
      const { port, requests } = targets[name] as Target;
      const result = await measureHttpLoad({ host: HOST, port, requests, concurrency, seconds: quick ? 1 : 2.5, warmUpSeconds: quick ? 0.5 : 1 });
      if (result.failed > 0) throw new Error(`${result.failed} requests failed (${name})`);
      results[name]?.push(result);
    }
  }
  return results;
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  for (const { columns, kinds } of SHAPES) {
    const model = makeServeModel({ columns, kinds, trees: 100, leaves: 31, seed: 7 });
    const variant = `${columns} raw columns, ${kinds === 'mixed' ? 'numbers, texts and a time' : 'numbers'}`;
    const home = await mkdtemp(join(tmpdir(), 'millrace-bench-serve-'));
    const servers: ServerProcess[] = [];
    const started = async (server: Promise<ServerProcess>): Promise<ServerProcess> => {
      servers.push(await server);
      return server;
    };
    try {
      const artifacts = createArtifacts({ root: join(home, 'artifacts') });
      const onnx = await artifacts.putBytes(model.onnx);
      const { sha256: predictor } = await artifacts.putJson(serveModelPredictor(model, onnx));
      const modelPath = join(home, 'model.onnx');
      await writeFile(modelPath, model.onnx);
      const version = JSON.stringify({ model: 'bench', version: 1, predictor });
      const requests = model.rows.map((row) => httpPost('/predict/bench', HOST, JSON.stringify({ rows: [row] })));
      const packed = model.packed.map(({ numbers }) => JSON.stringify({ numbers: [numbers] }));
      const packedRequests = packed.map((body) => httpPost('/predict', HOST, body));
      const ours = { port: (await started(startServer('serve-millrace-process', [home, version, 'true']))).port, requests };
      const unlogged = { port: (await started(startServer('serve-millrace-process', [home, version, 'false']))).port, requests };
      const barePort = (await started(startServer('serve-bare-process', [modelPath, JSON.stringify(model.signature.graph)]))).port;
      const bare = { port: barePort, requests: model.rows.map((row) => httpPost('/predict', HOST, JSON.stringify({ rows: [row] }))) };

      const compare = async (
        peers: Targets,
        concurrency: number,
        bars: Readonly<Record<string, { readonly rate?: number; readonly p99?: number }>>,
      ): Promise<void> => {
        const results = await inTurn({ ours, ...peers }, concurrency, quick);
        for (const peer of Object.keys(peers)) {
          const figure = (metric: string, unit: string, better: 'lower' | 'higher', read: (result: HttpLoadResult) => number, bar?: number): void => {
            const mine = summarise((results['ours'] ?? []).map(read));
            const peerValue = summarise((results[peer] ?? []).map(read)).value;
            const more = { ...(bar === undefined ? {} : { bar }), ...(quick ? { quick } : {}) };
            emit({ bench: 'serve', metric, unit, variant, ...mine, peer, peerValue, ratio: mine.value / peerValue, better, ...more });
          };
          figure(`requests_per_second_c${concurrency}`, 'requests/s', 'higher', (r) => r.requestsPerSecond, bars[peer]?.rate);
          figure(`p99_ms_c${concurrency}`, 'ms', 'lower', (r) => r.p99Ms, bars[peer]?.p99);
        }
      };
      await compare({ bare }, 1, { bare: { rate: BAR } });
      await compare({ bare, unlogged }, 16, { bare: { rate: BAR }, unlogged: { rate: BAR_LOGGING } });
      await compare({ bare }, 64, { bare: { rate: 1 } });
      if (kinds !== 'numbers') continue;

      const fastapiPort = await freePort();
      const fastapiFile = join(home, 'app.py');
      await writeFile(fastapiFile, FASTAPI_APP);
      const fastapi = await ensurePythonEnvironment('fastapi', FASTAPI_REQUIREMENTS);
      servers.push({ child: spawn(fastapi, [fastapiFile, modelPath, String(fastapiPort)], { stdio: 'inherit' }), port: fastapiPort });
      await untilReady(fastapiPort, '/predict', 'POST', packed[0]);

      const mlserver = await ensurePythonEnvironment('mlserver', MLSERVER_REQUIREMENTS);
      const [httpPort, grpcPort, metricsPort] = [await freePort(), await freePort(), await freePort()];
      const folder = join(home, 'mlserver');
      await mkdir(folder);
      await writeFile(join(folder, 'onnx_model.py'), MLSERVER_RUNTIME);
      await writeFile(
        join(folder, 'settings.json'),
        JSON.stringify({ host: HOST, http_port: httpPort, grpc_port: grpcPort, metrics_port: metricsPort, parallel_workers: 0, debug: false }),
      );
      await writeFile(
        join(folder, 'model-settings.json'),
        JSON.stringify({ name: 'bench', implementation: 'onnx_model.OnnxModel', parameters: { uri: modelPath } }),
      );
      servers.push({
        child: spawn(join(dirname(mlserver), 'mlserver'), ['start', folder], {
          stdio: ['ignore', 'ignore', 'ignore'],
          env: { ...process.env, PYTHONPATH: folder },
        }),
        port: httpPort,
      });
      await untilReady(httpPort, '/v2/models/bench/ready', 'GET');
      const v2 = model.packed.map(({ numbers }) =>
        httpPost(
          '/v2/models/bench/infer',
          HOST,
          JSON.stringify({ inputs: [{ name: 'numbers', shape: [1, numbers.length], datatype: 'FP32', data: numbers }] }),
        ),
      );
      await compare({ fastapi: { port: fastapiPort, requests: packedRequests }, mlserver: { port: httpPort, requests: v2 } }, 16, {
        fastapi: { rate: BAR_FASTAPI, p99: 1 },
        mlserver: { rate: BAR_MLSERVER, p99: 1 },
      });
    } finally {
      for (const server of servers) await stopServer(server);
      await rm(home, { recursive: true, force: true });
    }
  }
}

export const benchmark: Benchmark = {
  name: 'serve',
  summary:
    'one row over HTTP: the whole prediction server, logging on, beside a bare Fastify + onnxruntime-node server that is asked the same, FastAPI and MLServer on the same model file, and beside itself without a log',
  run,
};
