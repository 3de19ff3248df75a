import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import pg from 'pg';
import { moduleCommand } from '../config/module-process.ts';
import { parseReadyLine } from '../config/ready.ts';
import { freePort } from '../stack/ports.ts';
import { createDatabase, startPostgres } from '../stack/postgres.ts';
import { migrate } from '../store/migrate.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { ensureMlflowPython } from './mlflow-python.ts';
import { followMemory } from './process-memory.ts';
import { TRACKING_CLIENT } from './tracking-client.ts';

/** Ours ÷ theirs, both without the client's own time. */
const BAR_RATIO = 1 / 3;
const BAR_MEMORY_MIB = 300;
const BAR_SEARCH_MS = 50;
const START_WITHIN_MS = 120_000;
const LARGE_CHUNK_RUNS = 1_000;

type Times = Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>;

async function answering(url: string, child: ChildProcess): Promise<void> {
  const until = Date.now() + START_WITHIN_MS;
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error(`${url} ended before it answered`);
    const answer = await fetch(url).catch(() => null);
    if (answer?.ok === true) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${url} did not answer`);
}

/** MLflow's own server: a group of processes, so that all of them end. */
async function startMlflow(python: string, backend: string, folder: string): Promise<{ readonly url: string; readonly child: ChildProcess }> {
  await mkdir(folder, { recursive: true });
  const port = await freePort();
  const log = join(folder, 'server.log');
  const output = openSync(log, 'w');
  const child = spawn(
    python,
    [
      '-m',
      'mlflow',
      'server',
      '--backend-store-uri',
      backend,
      '--artifacts-destination',
      join(folder, 'artifacts'),
      '--host',
      '127.0.0.1',
      '--port',
      String(port),
      '--workers',
      '1',
    ],
    { detached: true, stdio: ['ignore', output, output], cwd: folder, env: { ...process.env, PATH: `${dirname(python)}:${process.env['PATH'] ?? ''}` } },
  );
  closeSync(output);
  await answering(`http://127.0.0.1:${port}/health`, child).catch((cause: unknown) => {
    throw new Error(`MLflow's server did not start: ${readFileSync(log, 'utf8').slice(-2_000)}`, { cause });
  });
  return { url: `http://127.0.0.1:${port}`, child };
}

async function stop(child: ChildProcess, group: boolean): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const gone = once(child, 'exit');
  process.kill(group ? -child.pid : child.pid, group ? 'SIGKILL' : 'SIGTERM');
  await gone;
}

async function startApi(databaseUrl: string, home: string): Promise<{ readonly url: string; readonly child: ChildProcess }> {
  const child = spawn(process.execPath, [...moduleCommand('../api/main', import.meta.url)], {
    env: { ...process.env, DATABASE_URL: databaseUrl, MILLRACE_HOME: home, MILLRACE_API_PORT: String(await freePort()) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = parseReadyLine(line);
    if (ready !== undefined) return { url: String(ready['url']), child };
  }
  throw new Error('the API ended before it was ready');
}

/** A server that answers at once, what Millrace answered: what remains is the client's own time. */
async function startInstant(example: string, runs: number): Promise<{ readonly url: string; readonly server: Server }> {
  const api = `${example}/api/2.0/mlflow`;
  const post = async (path: string, body: unknown): Promise<string> =>
    (await fetch(`${api}/${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).text();
  const experiment = (JSON.parse(await post('experiments/create', { name: 'example' })) as { experiment_id: string }).experiment_id;
  let created = '';
  for (let i = 0; i < runs; i++) {
    created = await post('runs/create', { experiment_id: experiment, run_name: `r${i}`, start_time: 1_700_000_000_000 });
    const { run } = JSON.parse(created) as { run: { info: { run_id: string } } };
    const metrics = Array.from({ length: 10 }, (_, j) => ({ key: `m${j}`, value: (i * j) % 97, timestamp: 1_700_000_000_000, step: 0 }));
    const params = Array.from({ length: 10 }, (_, j) => ({ key: `p${j}`, value: String(i % (j + 2)) }));
    await post('runs/log-batch', { run_id: run.info.run_id, metrics, params });
  }
  const search = { experiment_ids: [experiment], max_results: 200 };
  const answers: Readonly<Record<string, string>> = {
    'experiments/create': JSON.stringify({ experiment_id: experiment }),
    'runs/create': created,
    'runs/update': JSON.stringify({ run_info: (JSON.parse(created) as { run: { info: unknown } }).run.info }),
    'runs/search': await post('runs/search', search),
    filtered: await post('runs/search', { ...search, filter: "metrics.m3 > 40 and params.p2 = '1'", order_by: ['metrics.m5 DESC'] }),
  };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (data: Buffer) => (body += data.toString()));
    request.on('end', () => {
      const path = /\/mlflow\/([^?]+)/.exec(request.url ?? '')?.[1] ?? '';
      const answer = answers[path === 'runs/search' && body.includes('metrics.m3') ? 'filtered' : path] ?? '{}';
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) }).end(answer);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

/** Runs with ten parameters and ten metrics of `steps` points each, straight into the tables; the trigger keeps the latest ones. */
async function fill(databaseUrl: string, runs: number, steps: number): Promise<string> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('set synchronous_commit = off');
    const made = await client.query<{ id: number }>(`insert into experiments (name) values ('large') returning id`);
    const experiment = made.rows[0]?.id ?? 0;
    for (let from = 0; from < runs; from += LARGE_CHUNK_RUNS) {
      const range = [from, Math.min(runs, from + LARGE_CHUNK_RUNS) - 1];
      await client.query(
        `insert into runs (id, pipeline, name, experiment_id, status, params, trigger, started_at)
         select md5(i::text), '', 'r' || i, $3, 'completed', '{}', '{"kind": "api"}', timestamptz '2026-01-01' + i * interval '1 second' from generate_series($1::int, $2::int) i`,
        [...range, experiment],
      );
      await client.query(
        `insert into run_params (run_id, key, value) select md5(i::text), 'p' || j, (i % (j + 2))::text from generate_series($1::int, $2::int) i, generate_series(0, 9) j`,
        range,
      );
      await client.query(
        `insert into metrics (run_id, key, step, value, at)
         select md5(i::text), 'm' || j, s, ((i::bigint * 7919 + j * 104729 + s) % 100003) / 1000.0, timestamptz '2026-01-01' + s * interval '1 second'
         from generate_series($1::int, $2::int) i, generate_series(0, 9) j, generate_series(1, $3::int) s`,
        [...range, steps],
      );
    }
    await client.query('analyze');
    return String(experiment);
  } finally {
    await client.end();
  }
}

/** Milliseconds of one search over HTTP, its answer read whole. */
async function searchMs(url: string, body: unknown): Promise<number> {
  const started = performance.now();
  const answer = await fetch(`${url}/api/2.0/mlflow/runs/search`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`a search was answered with ${answer.status}`);
  return performance.now() - started;
}

/** Posts to the API, the answer as JSON. */
async function post<T>(url: string, path: string, body: unknown): Promise<T> {
  const answer = await fetch(`${url}/api/2.0/mlflow/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path} was answered with ${answer.status}: ${await answer.text()}`);
  return (await answer.json()) as T;
}

interface ManyPoints {
  readonly batchesMs: readonly number[];
  readonly pagesMs: readonly number[];
  readonly searchesMs: readonly number[];
}

/** One metric of one run, until it has all of them; then its history page by page, and searches that find the run. */
async function logManyPoints(url: string, batches: number): Promise<ManyPoints> {
  const { experiment_id } = await post<{ experiment_id: string }>(url, 'experiments/create', { name: 'many points' });
  const { run } = await post<{ run: { info: { run_id: string } } }>(url, 'runs/create', { experiment_id, run_name: 'long' });
  const run_id = run.info.run_id;
  const times = { batchesMs: [] as number[], pagesMs: [] as number[], searchesMs: [] as number[] };
  const timed = async <T>(into: number[], work: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await work();
    into.push(performance.now() - started);
    return result;
  };
  for (let batch = 0; batch < batches; batch++) {
    const metrics = Array.from({ length: 1_000 }, (_, i) => {
      const step = batch * 1_000 + i;
      return { key: 'loss', value: 1 / (step + 1), timestamp: 1_700_000_000_000 + step, step };
    });
    await timed(times.batchesMs, () => post(url, 'runs/log-batch', { run_id, metrics }));
  }
  let found = 0;
  for (let token = ''; ; ) {
    const query = new URLSearchParams({ run_id, metric_key: 'loss', ...(token === '' ? {} : { page_token: token }) });
    const page = await timed(times.pagesMs, async () => {
      const answer = await fetch(`${url}/api/2.0/mlflow/metrics/get-history?${query.toString()}`);
      return (await answer.json()) as { metrics: readonly unknown[]; next_page_token?: string };
    });
    found += page.metrics.length;
    if (page.next_page_token === undefined) break;
    token = page.next_page_token;
  }
  if (found !== batches * 1_000) throw new Error(`${found} points came back of ${batches * 1_000}`);
  const search = { experiment_ids: [experiment_id], filter: 'metrics.loss < 0.5', order_by: ['metrics.loss ASC'], max_results: 100 };
  for (let i = 0; i < 40; i++) await timed(times.searchesMs, () => searchMs(url, search));
  return times;
}

async function run({ quick, emit }: BenchmarkOptions): Promise<void> {
  const python = await ensureMlflowPython();
  const more = quick ? { quick } : {};
  const folder = await mkdtemp(join(tmpdir(), 'millrace-tracking-'));
  const postgres = await startPostgres({ dataFolder: join(folder, 'postgres'), port: await freePort(), logFile: join(folder, 'postgres.log') });
  const running: (() => Promise<void>)[] = [() => postgres.stop()];
  try {
    await migrate(postgres.url);
    const api = await startApi(postgres.url, join(folder, 'home'));
    running.push(() => stop(api.child, false));
    const peakMib = followMemory(api.child.pid ?? 0);
    const runs = quick ? 50 : 200;
    const instant = await startInstant(api.url, runs);
    running.push(async () => {
      instant.server.closeAllConnections();
      instant.server.close();
      await once(instant.server, 'close');
    });
    const peers: Record<string, string> = {};
    for (const [label, backend] of [
      ['mlflow on SQLite', `sqlite:///${join(folder, 'mlflow.db')}`],
      ['mlflow on Postgres', (await createDatabase(postgres.url, 'mlflow')).replace(/^postgres\w*:/, 'postgresql+psycopg2:')],
    ] as const) {
      const peer = await startMlflow(python, backend, join(folder, label.replaceAll(' ', '-')));
      running.push(() => stop(peer.child, true));
      peers[label] = peer.url;
    }
    const { stdout } = await promisify(execFile)(
      python,
      [
        '-c',
        TRACKING_CLIENT,
        JSON.stringify({ millrace: api.url, instant: instant.url, ...peers }),
        String(quick ? 1 : 3),
        String(quick ? 200 : 1_000),
        String(runs),
      ],
      { maxBuffer: 64 * 2 ** 20 },
    );
    const times = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Times;
    const of = (label: string, figure: string) => summarise(times[label]?.[figure] ?? []);
    for (const [metric, figure, variant] of [
      ['log_metric', 'log_metric', 'one call'],
      ['log_batch', 'log_batch_steps', '1,000 points of one key'],
      ['log_batch', 'log_batch_keys', '1,000 keys'],
      ['create_runs', 'create_runs', 'a run with 10 params and 10 metrics'],
      ['search_runs', 'search_runs', `all ${runs} runs`],
      ['search_runs', 'search_filtered', `filtered and ordered, of ${runs} runs`],
    ] as const) {
      const own = of('instant', figure).value;
      const ours = of('millrace', figure);
      const net = { ...ours, value: ours.value - own, min: ours.min - own, max: ours.max - own };
      for (const peer of Object.keys(peers)) {
        const peerValue = of(peer, figure).value - own;
        emit({
          bench: 'tracking',
          metric,
          variant: `${variant}; client's own ${own.toFixed(2)} ms taken off`,
          ...net,
          unit: 'ms',
          peer,
          peerValue,
          ratio: Math.max(0, net.value) / peerValue,
          better: 'lower',
          bar: BAR_RATIO,
          ...more,
        });
      }
    }
    for (const stopPeer of running.splice(3)) await stopPeer();

    const batches = quick ? 100 : 1_000;
    const manyPoints = await logManyPoints(api.url, batches);
    for (const [variant, times] of [
      ['a batch of 1,000', manyPoints.batchesMs],
      ['a page of 25,000 of its history', manyPoints.pagesMs],
      ['a search that finds the run', manyPoints.searchesMs],
    ] as const)
      emit({
        bench: 'tracking',
        metric: 'many_points',
        variant: `${batches * 1_000} points in one run: ${variant}`,
        ...summarise(times),
        unit: 'ms',
        better: 'lower',
        ...more,
      });

    const [many, steps] = quick ? [10_000, 10] : [100_000, 10];
    const experiment = await fill(postgres.url, many, steps);
    const search = { experiment_ids: [experiment], filter: 'metrics.m3 > 40', order_by: ['metrics.m5 DESC'] };
    for (const limit of [100, 1_000]) {
      const took: number[] = [];
      for (let i = 0; i < 5; i++) await searchMs(api.url, { ...search, max_results: limit });
      for (let i = 0; i < 40; i++) took.push(await searchMs(api.url, { ...search, max_results: limit }));
      emit({
        bench: 'tracking',
        metric: 'search_large',
        variant: `first ${limit} of ${many} runs, ${many * 10 * steps} points, filtered and ordered by a metric`,
        ...summarise(took),
        unit: 'ms',
        better: 'lower',
        ...(limit === 100 ? { bar: BAR_SEARCH_MS } : {}),
        ...more,
      });
    }
    emit({
      bench: 'tracking',
      metric: 'peak_mib',
      variant: 'the API, all of the above',
      ...summarise([peakMib()]),
      unit: 'MiB',
      better: 'lower',
      bar: BAR_MEMORY_MIB,
      ...more,
    });
  } finally {
    for (const end of running.toReversed()) await end().catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  }
}

/** MLflow's client on this API, on MLflow's own server with SQLite and with the same Postgres. */
export const benchmark: Benchmark = {
  name: 'tracking',
  summary: "MLflow's client: metrics, batches, runs and searches, beside MLflow's own server; searches in 100,000 runs",
  run,
};
