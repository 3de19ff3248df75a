/** What the prediction server writes down: decisions, feedback, and what is left of the log after a kill. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseReadyLine } from '../../config/ready.ts';
import { type DecisionsInput, DecisionsSchema, predicted, when } from '../../contracts/decisions.ts';
import type { FeedbackRecord, OutcomeRecord, PredictionRecord, ServedVersion } from '../../contracts/routes.ts';
import { call, col, hashed, set } from '../../contracts/row-transforms.ts';
import { freePort } from '../../stack/ports.ts';
import { freshStore } from '../support/database.ts';
import {
  expectedProbability,
  FLIGHT,
  FLIGHT_SIGNATURE,
  openServingBench,
  publishVersion,
  type PublishOptions,
  type ServingBench,
} from '../support/serving-fixture.ts';

let bench: ServingBench;
const children: ChildProcess[] = [];
beforeEach(async () => {
  bench = await openServingBench();
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await bench.close();
});

const post = (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });

/** Whole lines of a log; a torn last one is not among them. */
async function linesUnder<T>(folder: string, endpoint = 'flights'): Promise<T[]> {
  const names = await readdir(join(bench.home, folder, endpoint)).catch(() => []);
  const texts = await Promise.all(names.map((name) => readFile(join(bench.home, folder, endpoint, name), 'utf8')));
  return texts
    .flatMap((text) =>
      text
        .slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .filter((line) => line !== ''),
    )
    .map((line) => JSON.parse(line) as T);
}

async function withRules(version: number, rules: DecisionsInput, options: PublishOptions = {}): Promise<ServedVersion> {
  const decisions = (await bench.artifacts.putJson(DecisionsSchema.parse(rules))).sha256;
  return { ...(await publishVersion(bench.artifacts, version, options)), decisions };
}

const RULES: DecisionsInput = {
  rules: [
    when(call('and', call('greater', col('distance'), 1_000), call('lessOrEqual', predicted.probability, 1)), 'refuse'),
    when(call('greater', predicted.probabilityOf('late'), 0.5), 'warn', { review: 'late-flights' }),
  ],
  otherwise: 'book',
};

interface Answer {
  readonly requestId: string;
  readonly predictions: readonly { readonly label: string; readonly action?: string }[];
}

describe('decisions', () => {
  const serve = async (rules: DecisionsInput, options: PublishOptions = {}): ReturnType<ServingBench['serve']> => {
    bench.store.routes = [bench.route('flights', 1, await withRules(1, rules, options))];
    return bench.serve({ hashKey: 'k' });
  };

  it('are answered as action row by row, logged, and rows of a rule that asks for it go to be reviewed', async () => {
    const { server, url } = await serve(RULES);
    const rows = [FLIGHT, { ...FLIGHT, distance: -5 }, { ...FLIGHT, distance: 2_000 }];
    const answer = (await (await post(`${url}/predict/flights`, { rows })).json()) as Answer;
    expect(answer.predictions.map(({ label, action }) => [label, action])).toEqual([
      ['late', 'warn'],
      ['on time', 'book'],
      ['late', 'refuse'],
    ]);
    await server.stop();
    const lines = await linesUnder<PredictionRecord>('predictions');
    expect(lines.map(({ row, action, propensity, explored, review }) => [row, action, propensity, explored, review])).toEqual([
      [0, 'warn', 1, false, 'late-flights'],
      [1, 'book', 1, false, undefined],
      [2, 'refuse', 1, false, undefined],
    ]);
    expect(await linesUnder<PredictionRecord>('reviews')).toEqual([lines[0]]);
  });

  it('are an output of the Open Inference Protocol, beside the others', async () => {
    const { url } = await serve(RULES);
    const described = (await (await fetch(`${url}/v2/models/flights`)).json()) as { outputs: { name: string; datatype: string }[] };
    expect(described.outputs.map(({ name, datatype }) => [name, datatype])).toEqual([
      ['output', 'FP32'],
      ['label', 'BYTES'],
      ['action', 'BYTES'],
    ]);
    const inputs = FLIGHT_SIGNATURE.columns.map(({ name, type }) => ({
      name,
      datatype: type === 'number' ? 'FP64' : 'BYTES',
      shape: [1],
      data: [FLIGHT[name as keyof typeof FLIGHT]],
    }));
    const answer = (await (await post(`${url}/v2/models/flights/infer`, { inputs })).json()) as { outputs: { name: string; data: unknown[] }[] };
    expect(answer.outputs.find(({ name }) => name === 'action')?.data).toEqual(['warn']);
  });

  it('of an endpoint without rules are not there', async () => {
    bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
    const { server, url } = await bench.serve();
    expect(await (await post(`${url}/predict/flights`, { rows: [FLIGHT] })).text()).not.toContain('action');
    await server.stop();
    expect(Object.keys((await linesUnder<PredictionRecord>('predictions'))[0] ?? {})).not.toContain('action');
  });

  it('follow the version that answers: two versions of one predictor may have different rules', async () => {
    const champion = await withRules(1, RULES);
    const challenger = {
      ...champion,
      version: 2,
      decisions: (await bench.artifacts.putJson(DecisionsSchema.parse({ ...RULES, rules: RULES.rules.slice(0, 1) }))).sha256,
    };
    bench.store.routes = [
      bench.route('flights', 1, champion, { challenger: { version: challenger, percent: 50, leaseUntil: new Date(Date.now() + 60_000).toISOString() } }),
    ];
    const { url } = await bench.serve();
    const actions = new Map<string, Set<string | undefined>>();
    for (let i = 0; i < 60; i += 1) {
      const response = await post(`${url}/predict/flights`, { rows: [FLIGHT] });
      const version = response.headers.get('millrace-version') ?? '';
      const { predictions } = (await response.json()) as Answer;
      actions.set(version, (actions.get(version) ?? new Set()).add(predictions[0]?.action));
    }
    expect(Object.fromEntries([...actions].map(([version, found]) => [version, [...found]]))).toEqual({ 1: ['warn'], 2: ['book'] });
  });

  it('of a control share are the same when a request is sent again, with its propensity in the log', async () => {
    const { server, url } = await serve({ ...RULES, explore: { share: 0.5, actions: ['book', 'warn', 'refuse'] } });
    const ids = Array.from({ length: 60 }, (_, i) => `client-${i}`);
    const ask = async (id: string): Promise<string | undefined> =>
      ((await (await post(`${url}/predict/flights`, { rows: [FLIGHT] }, { 'x-request-id': id })).json()) as Answer).predictions[0]?.action;
    const first: (string | undefined)[] = [];
    for (const id of ids) first.push(await ask(id));
    const again: (string | undefined)[] = [];
    for (const id of ids) again.push(await ask(id));
    expect(again).toEqual(first);
    expect(new Set(first)).toEqual(new Set(['book', 'warn', 'refuse']));
    await server.stop();
    for (const { action, propensity, explored } of await linesUnder<PredictionRecord>('predictions')) {
      expect(propensity).toBeCloseTo(action === 'warn' ? 0.5 + 0.5 / 3 : 0.5 / 3, 12);
      if (explored === false) expect(action).toBe('warn');
    }
  });

  it('are made of answers by key as well, without a control share; where rules look at columns, the rows have to come along', async () => {
    const rules: DecisionsInput = { ...RULES, explore: { share: 1, actions: ['drawn', 'at random'] } };
    const late = { label: 'late', probability: 0.75, probabilities: { 'on time': 0.25, late: 0.75 } };
    const champion = await withRules(1, rules);
    const alone = await withRules(1, { ...rules, rules: rules.rules.slice(1) });
    let predictor = champion.predictor;
    const hash = (key: string): string => createHash('sha256').update(key).digest('hex');
    bench.store.routes = [bench.route('flights', 1, champion), bench.route('alone', 1, alone)];
    const { url } = await bench.serve({
      precomputed: {
        answers: () =>
          Promise.resolve({
            model: 'flight-delay',
            version: 1,
            predictor,
            columns: [{ name: 'airport', type: 'string' }],
            answers: new Map([[hash('ABQ'), JSON.stringify(late)]]),
          }),
      },
    });
    const ask = async (endpoint: string, body: unknown): Promise<Answer & { readonly undecided?: string }> =>
      (await (await post(`${url}/predict/${endpoint}`, body)).json()) as Answer & { readonly undecided?: string };
    const keys = ['ABQ', 'XXX'];
    const byKey = await ask('flights', { keys });
    expect(byKey).toMatchObject({ predictions: [late, null], undecided: 'The rules look at distance: send the rows beside the keys.' });
    expect(byKey.predictions[0]).not.toHaveProperty('action');
    // what is computed is logged, and drawn as every other row is; what was precomputed is not
    const hybrid = await ask('flights', { keys, rows: [{ ...FLIGHT, distance: 2_000 }, FLIGHT] });
    expect(hybrid.predictions.map(({ action }) => action)).toEqual(['refuse', expect.stringMatching(/^(drawn|at random)$/)]);
    expect(hybrid).not.toHaveProperty('undecided');
    expect(await ask('alone', { keys })).toMatchObject({ predictions: [{ ...late, action: 'warn' }, null] });
    predictor = 'f'.repeat(64);
    expect(await ask('alone', { keys })).toMatchObject({
      predictions: [late, null],
      undecided: 'The predictions by key are of another version than the rules.',
    });
  });

  it('may look at a column that is never logged as it came', async () => {
    const { server, url } = await serve(
      { rules: [when(call('equal', col('origin'), 'SECRET-TOWN'), 'known')], otherwise: 'unknown' },
      { transforms: [set('origin', hashed(col('origin')))], sampleRows: [], sampleOutput: [] },
    );
    const answer = (await (await post(`${url}/predict/flights`, { rows: [{ ...FLIGHT, origin: 'SECRET-TOWN' }] })).json()) as Answer;
    expect(answer.predictions[0]?.action).toBe('known');
    await server.stop();
    const lines = await linesUnder<PredictionRecord>('predictions');
    expect(lines[0]).toMatchObject({ action: 'known', inputs: { origin: expect.stringMatching(/^[0-9a-f]{64}$/) as string } });
    expect(JSON.stringify(lines)).not.toContain('SECRET');
  });
});

describe('feedback', () => {
  it('takes labels and outcomes in one request, the last of what is said twice, and says how many', async () => {
    bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
    const { url } = await bench.serve();
    const { requestId } = (await (await post(`${url}/predict/flights`, { rows: [FLIGHT, FLIGHT] })).json()) as Answer;
    const response = await post(`${url}/feedback/flights`, {
      labels: [
        { requestId, label: 'late' },
        { requestId, label: 'on time' },
        { requestId, row: 1, label: 'late' },
      ],
      outcomes: [
        { requestId, name: 'revenue', value: 12.5, at: '2026-01-01T10:00:00+02:00' },
        { requestId, row: 1, name: 'churned', value: true },
      ],
    });
    expect(await response.json()).toMatchObject({ accepted: 4, duplicates: 1 });
    const lines = await linesUnder<Partial<FeedbackRecord & OutcomeRecord>>('feedback');
    expect(lines.map(({ row, label, outcome, value }) => [row, label ?? outcome, value])).toEqual([
      [0, 'on time', undefined],
      [1, 'late', undefined],
      [0, 'revenue', 12.5],
      [1, 'churned', 1],
    ]);
    expect(lines[2]?.happenedAt).toBe('2026-01-01T08:00:00.000Z');
    expect(lines[3]?.happenedAt).toBe(lines[3]?.at);
  });

  it.each([
    ['nothing at all', {}, 'body'],
    ['too many values', { outcomes: Array.from({ length: 10_001 }, () => ({ requestId: 'r', name: 'x', value: 1 })) }, 'outcomes'],
    ['a name that is none', { outcomes: [{ requestId: 'r', name: 'a b', value: 1 }] }, 'outcomes.0.name'],
    ['the name of a figure of labels', { outcomes: [{ requestId: 'r', name: 'logLoss', value: 1 }] }, 'outcomes.0.name'],
    ['a time that is none', { outcomes: [{ requestId: 'r', name: 'x', value: 1, at: 'today' }] }, 'outcomes.0.at'],
    ['a value that is no number', { outcomes: [{ requestId: 'r', name: 'x', value: 'much' }] }, 'outcomes.0.value'],
    ['a row that is none', { labels: [{ requestId: 'r', row: -1, label: 1 }] }, 'labels.0.row'],
  ])('with %s is refused, and nothing of it is kept', async (_, body, path) => {
    bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
    const { url } = await bench.serve();
    const response = await post(`${url}/feedback/flights`, body);
    expect(response.status).toBe(400);
    expect(((await response.json()) as { problems: { path: string }[] }).problems.map((problem) => problem.path)).toContain(path);
    expect(await linesUnder('feedback')).toEqual([]);
  });

  it('tells what became of it where that is known, and that Postgres does not answer where it is not', async () => {
    bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
    const store = await freshStore();
    const { url } = await bench.serve({ feedback: store.feedback });
    const value = { requestId: 'r1', row: 0, name: '', value: 'late', receivedAt: new Date().toISOString() };
    await store.feedback.take({ file: 'f', endpoint: 'flights', fromByte: 0, toByte: 9, values: [value, value] });
    expect(await (await fetch(`${url}/feedback/flights`)).json()).toMatchObject({ joined: 0, waiting: 1, unknown: 0, duplicates: 1 });
    expect(await (await fetch(`${url}/feedback/flights?requestId=r1`)).json()).toMatchObject({
      requestId: 'r1',
      values: [{ value: 'late', status: 'waiting' }],
    });
    expect((await fetch(`${url}/feedback/nobody`)).status).toBe(404);
    expect((await fetch(`${url}/feedback/flights?requestId=a%20b`)).status).toBe(400);
    const { url: alone } = await bench.serve();
    expect((await fetch(`${alone}/feedback/flights`)).status).toBe(503);
  });
});

describe('the log of a process that ends under load', () => {
  const MAIN = fileURLToPath(new URL('../../serving/main.ts', import.meta.url));

  async function startProcess(): Promise<{ readonly child: ChildProcess; readonly url: string }> {
    const store = await freshStore();
    await store.endpoints.setRoute({ route: bench.route('flights', 1, await publishVersion(bench.artifacts, 1)), expectedEpoch: 0, rolloutId: null });
    const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
      env: {
        ...process.env,
        DATABASE_URL: store.databaseUrl,
        MILLRACE_HOME: bench.home,
        MILLRACE_SERVING_PORT: String(await freePort()),
        MILLRACE_SERVING_PROCESSES: '1',
        MILLRACE_LOG_LEVEL: 'error',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    for await (const line of createInterface({ input: child.stdout })) {
      const ready = parseReadyLine(line);
      if (ready !== undefined) return { child, url: String(ready['url']) };
    }
    throw new Error('the process ended before it was ready');
  }

  /** Sends requests until the server is gone; when each answer came. */
  async function load(url: string, answered: Map<string, number>): Promise<void> {
    let count = 0;
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (;;) {
          const id = `load-${(count += 1)}`;
          try {
            const response = await post(`${url}/predict/flights`, { rows: [FLIGHT] }, { 'x-request-id': id });
            await response.arrayBuffer();
            if (response.status !== 200) continue;
            answered.set(id, performance.now());
          } catch {
            return;
          }
        }
      }),
    );
  }

  it.each([
    ['SIGKILL', 1_500],
    ['SIGTERM', 0],
  ] as const)(
    'by %s has every request that was answered more than %d ms before',
    async (signal, marginMs) => {
      const { child, url } = await startProcess();
      const answered = new Map<string, number>();
      const loading = load(url, answered);
      const old = (): number => [...answered.values()].filter((at) => at < performance.now() - marginMs).length;
      while (old() <= 50 || answered.size < 200) await sleep(20);
      const exited = once(child, 'exit');
      const killedAt = performance.now();
      child.kill(signal);
      await exited;
      await loading;
      const logged = new Map((await linesUnder<PredictionRecord>('predictions')).map((line) => [line.requestId, line]));
      const due = [...answered].filter(([, at]) => signal === 'SIGTERM' || at < killedAt - marginMs).map(([id]) => id);
      expect(due.length).toBeGreaterThan(50);
      expect(due.filter((id) => !logged.has(id))).toEqual([]);
      expect(logged.get(due[0] ?? '')?.output[1]).toBeCloseTo(expectedProbability(FLIGHT, 1), 5);
    },
    60_000,
  );
});
