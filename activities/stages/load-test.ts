import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { projectHashKey } from '../../config/hash-key.ts';
import { moduleCommand } from '../../config/module-process.ts';
import { packageVersion } from '../../config/package-root.ts';
import { parseReadyLine } from '../../config/ready.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import { type LoadTestFigures, type LoadTestInput, LoadTestInputSchema } from '../../contracts/load-test.ts';
import { datasetFiles, loadManifest, pickColumns } from '../../data/dataset.ts';
import { readColumns } from '../../data/read-columns.ts';
import { recordedRequests } from '../../data/recorded-requests.ts';
import { requestRow } from '../../ml/score.ts';
import { writeModelFolder } from '../../store/model-folder.ts';
import { httpPost } from '../http-wire.ts';
import type { OpenLoad, OpenLoadResult } from '../open-load.ts';
import { loadPredictor } from '../scored-rows.ts';
import { defineStage, type StageContext } from '../stage-definition.ts';

/** Requests that are sent in turn. */
const MOST_REQUESTS = 2_000;
const WARM_UP_SECONDS = 2;
const GRACE_SECONDS = 5;
const CONNECTIONS = { least: 16, most: 256 } as const;
/** A generator that keeps up answers for this share of the rate. */
const LEAST_SHARE_OF_RATE = 0.99;
const READY_WITHIN_MS = 60_000;

/**
 * Starts a prediction server with the version, as a process of its own on a free port, and sends it recorded requests at the rate,
 * from another process.
 */
export const loadTestStage = defineStage({
  input: LoadTestInputSchema,
  cacheable: false,
  run: async (input, context) => {
    const { deps, progress, signal } = context;
    progress(null, 'reading requests');
    const bodies = await requestBodies(input, context);
    const folder = await mkdtemp(join(tmpdir(), 'millrace-load-test-'));
    try {
      await writeModelFolder(deps.artifacts, input.version, join(folder, 'model'), `millrace ${packageVersion}`);
      const server = await startServer(folder, projectHashKey(deps.config.home), signal);
      try {
        const { model } = input.version;
        const host = '127.0.0.1';
        const result = await sendLoad(
          {
            host,
            port: server.port,
            requests: bodies.map((rows) => httpPost(`/predict/${model}`, `${host}:${String(server.port)}`, JSON.stringify({ rows }))),
            requestsPerSecond: input.requestsPerSecond,
            seconds: input.forMs / 1_000,
            warmUpSeconds: WARM_UP_SECONDS,
            connections: Math.min(CONNECTIONS.most, Math.max(CONNECTIONS.least, Math.ceil((2 * input.requestsPerSecond * input.p99Ms) / 1_000))),
            inTimeMs: input.p99Ms,
            graceSeconds: GRACE_SECONDS + input.p99Ms / 1_000,
          },
          context,
        );
        return judged(input, result);
      } finally {
        await server.stop();
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});

function judged({ requestsPerSecond, p99Ms, maxErrorRate }: LoadTestInput, result: OpenLoadResult) {
  const errorRate = (result.failed + result.unanswered) / result.requests;
  const ms = (value: number): string => `${value.toPrecision(3)} ms`;
  const percent = (value: number): string => `${(100 * value).toPrecision(3)} %`;
  const problems: Problem[] = [];
  if (errorRate > maxErrorRate) {
    const [worst] = result.statuses;
    const what = [
      ...result.statuses.map(([status, count]) => `${String(count)} × ${status}`),
      ...(result.unanswered > 0 ? [`${String(result.unanswered)} without an answer`] : []),
    ];
    problems.push({
      path: 'maxErrorRate',
      message: `${percent(errorRate)} of the requests were not answered with 200; at most ${percent(maxErrorRate)} may be (${what.join(', ')}).`,
      found: percent(errorRate),
      ...(worst?.[0] === '400' ? { fix: 'The recorded requests do not fit this version: record newer ones, or give rows.' } : {}),
    });
  }
  if (result.p99Ms > p99Ms)
    problems.push({
      path: 'p99Ms',
      message: `The 99th percentile is ${ms(result.p99Ms)}, ${ms(result.p99Ms - p99Ms)} (${percent(result.p99Ms / p99Ms - 1)}) above ${ms(p99Ms)}.`,
      found: ms(result.p99Ms),
      ...(result.generatorP99Ms > p99Ms / 2 ? { fix: `The generator itself was ${ms(result.generatorP99Ms)} late: run it on a machine with more room.` } : {}),
    });
  const least = requestsPerSecond * LEAST_SHARE_OF_RATE * (1 - errorRate);
  if (result.answeredPerSecond < least)
    problems.push({
      path: 'requestsPerSecond',
      message: `${result.answeredPerSecond.toFixed(1)} a second were answered in time, ${percent(1 - result.answeredPerSecond / requestsPerSecond)} less than ${String(requestsPerSecond)}.`,
      found: result.answeredPerSecond.toFixed(1),
    });
  const shown = `p50 ${ms(result.p50Ms)}, p95 ${ms(result.p95Ms)}, p99 ${ms(result.p99Ms)}, ${percent(errorRate)} errors, ${result.answeredPerSecond.toFixed(0)} of ${String(requestsPerSecond)} requests/s`;
  if (problems.length > 0) throw new MillraceError('LOAD_TEST_FAILED', `The version does not bear the load: ${shown}.`, { problems });
  const { requests, answeredPerSecond, p50Ms, p95Ms, maxMs, generatorP99Ms } = result;
  const output: LoadTestFigures = {
    kind: 'loadTest',
    requests,
    requestsPerSecond,
    answeredPerSecond,
    p50Ms,
    p95Ms,
    p99Ms: result.p99Ms,
    maxMs,
    errorRate,
    generatorP99Ms,
  };
  return {
    output,
    summary: shown,
    metrics: Object.entries({ p50Ms, p95Ms, p99Ms: result.p99Ms, maxMs, errorRate, answeredPerSecond }).map(([key, value]) => ({ key: `load.${key}`, value })),
  };
}

/** What is sent: each request's rows, with all columns that the version asks for. */
async function requestBodies(input: LoadTestInput, { deps, signal }: StageContext): Promise<readonly (readonly Readonly<Record<string, unknown>>[])[]> {
  const { signature } = await loadPredictor(deps, input.version.predictor);
  if (input.from.kind === 'endpoint') {
    const recorded = await recordedRequests(deps.config.home, input.from.name, MOST_REQUESTS, signal);
    // what was masked or did not stand in an older version's requests is not known
    return recorded.map((rows) => rows.map((row) => Object.fromEntries(signature.columns.map(({ name }) => [name, row[name] ?? null]))));
  }
  const manifest = await loadManifest(deps.artifacts, input.from.dataset);
  pickColumns(
    manifest.columns,
    signature.columns.map(({ name }) => name),
  );
  const files = await datasetFiles(deps.artifacts, manifest);
  const table = await readColumns(
    files.map(({ path }) => path),
    signature.columns.map(({ name }) => name),
    { sampleRows: MOST_REQUESTS, seed: 0, signal },
  );
  return Array.from({ length: table.rows }, (_, row) => [requestRow(signature.columns, table, row)]);
}

/** A server that ends with us: also when this worker is killed, because its input closes. */
async function startServer(folder: string, hashKey: string, signal: AbortSignal): Promise<{ readonly port: number; readonly stop: () => Promise<void> }> {
  const child = spawn(process.execPath, [...moduleCommand('../../serving/folder-server-main', import.meta.url)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: '0',
      MODEL_FOLDER: join(folder, 'model'),
      STATE_FOLDER: join(folder, 'state'),
      MILLRACE_HASH_KEY: hashKey,
      STOP_WITH_INPUT: '1',
    },
  });
  const exited = once(child, 'exit');
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2_000);
  });
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await exited;
  };
  try {
    const port = await Promise.race([readyPort(child), exited.then(() => undefined)]);
    if (port === undefined)
      throw new MillraceError('MODEL_INVALID', 'The prediction server could not start with the version.', {
        problems: [{ path: 'server', message: firstLine(said) }],
      });
    signal.throwIfAborted();
    return { port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Errors of ours begin with their code; of a log's line the message is enough. */
const firstLine = (text: string): string => text.split('\n').find((line) => /^[A-Z_]+: /.test(line)) ?? 'it ended before it was ready';

async function readyPort(child: ChildProcess): Promise<number | undefined> {
  if (child.stdout === null) return undefined;
  const lines = createInterface({ input: child.stdout });
  const [line] = (await once(lines, 'line', { signal: AbortSignal.timeout(READY_WITHIN_MS) })) as [string];
  const port = parseReadyLine(line)?.['port'];
  return typeof port === 'number' ? port : undefined;
}

async function sendLoad(load: OpenLoad, { signal, progress }: StageContext): Promise<OpenLoadResult> {
  const child = spawn(process.execPath, [...moduleCommand('../open-load-process', import.meta.url)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const end = (): void => {
    child.kill('SIGKILL');
  };
  signal.addEventListener('abort', end);
  try {
    const exited = once(child, 'close');
    let result: OpenLoadResult | undefined;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const said = JSON.parse(line) as { readonly progress?: number; readonly result?: OpenLoadResult };
      if (said.progress !== undefined) progress(said.progress, `${String(load.requestsPerSecond)} requests/s`);
      result = said.result ?? result;
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(JSON.stringify(load));
    await exited;
    signal.throwIfAborted();
    if (result === undefined) throw new MillraceError('INTERNAL', 'The generator of the load ended before it was done.');
    return result;
  } finally {
    signal.removeEventListener('abort', end);
  }
}
