import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import type { Role } from '../../contracts/identity.ts';
import type { Store } from '../../store/store.ts';
import { createTokenBook } from '../../store/token-book.ts';
import { freshStore } from '../support/database.ts';

/** Of the machine: Node has nothing that makes certificates. */
const OPENSSL = 'openssl';

let store: Store;
let app: ReturnType<typeof createApiServer>;
const sent: { readonly workflowId: string; readonly name: string; readonly argument: unknown }[] = [];
const tokens = new Map<string, string>();
const runs: Record<string, string> = {};

beforeAll(async () => {
  store = await freshStore();
  for (const pipeline of ['flights', 'fraud']) {
    const runId = randomBytes(16).toString('hex');
    runs[pipeline] = runId;
    await store.runs.begin({ runId, workflowId: `w-${pipeline}`, temporalRunId: 't', pipeline, params: {}, trigger: { kind: 'cli', by: 'ada' } });
    await store.models.register({ model: `${pipeline}-model`, predictor: 'a'.repeat(64), metrics: {}, evaluation: null });
    await store.approvals.request({ runId, gate: 'production', evidence: {}, expiresAt: null, model: `${pipeline}-model` });
    const champion = { model: `${pipeline}-model`, version: 1, predictor: 'a'.repeat(64) };
    await store.endpoints.setRoute({
      route: { endpoint: `${pipeline}-api`, epoch: 1, champion, challenger: null, log: true },
      expectedEpoch: 0,
      rolloutId: null,
    });
  }
  const make = async (who: string, roles: readonly Role[], projects?: readonly string[]): Promise<void> => {
    const { token } = await store.tokens.create({ who, roles, expiresAt: null, by: 'root', ...(projects === undefined ? {} : { projects }) });
    tokens.set(who, token);
  };
  await make('root', ['admin']);
  await make('viv', ['viewer']);
  await make('ed', ['editor']);
  await make('app', ['approver']);
  await make('op', ['operator']);
  await make('fly', ['editor', 'approver', 'operator'], ['flights*']);
  const book = createTokenBook({ tokens: store.tokens, loopback: true, everyMs: 100 });
  await book.start();
  app = createApiServer({
    store,
    version: '1.2.3',
    tokens: book,
    update: (workflowId, name, argument) => {
      sent.push({ workflowId, name, argument });
      return Promise.resolve(null);
    },
  });
  return async () => {
    book.stop();
    await app.close();
  };
});

async function ask(who: string | undefined, url: string, body?: object): Promise<{ readonly status: number; readonly body: Record<string, unknown> }> {
  const answer = await app.inject({
    url: `/api/v1${url}`,
    method: body === undefined ? 'GET' : 'POST',
    headers: who === undefined ? {} : { authorization: `Bearer ${tokens.get(who) ?? who}` },
    ...(body === undefined ? {} : { payload: body }),
  });
  return { status: answer.statusCode, body: answer.json() };
}
const names = (body: Record<string, unknown>, key: string): readonly unknown[] =>
  (body['items'] as readonly Record<string, unknown>[]).map((item) => item[key]);

describe('who asks the API', () => {
  it('is refused without a good token, but for health', async () => {
    for (const who of [undefined, 'wrong']) expect((await ask(who, '/runs')).status).toBe(401);
    expect((await ask(undefined, '/no-such-thing')).status).toBe(401);
    expect((await app.inject('/healthz')).statusCode).toBe(200);
    expect((await app.inject('/metrics')).statusCode).toBe(401);
    expect((await app.inject('/api/2.0/mlflow/experiments/list')).statusCode).toBe(401);
  });

  it('may what its roles say', async () => {
    const silence = { endpoint: 'flights-api', until: '2999-01-01T00:00:00.000Z', by: 'x', reason: 'a move' };
    const comment = { by: 'x', text: 'looks good' };
    const table: readonly (readonly [string, object | undefined, readonly string[]])[] = [
      ['/runs', undefined, ['root', 'viv', 'ed', 'app', 'op']],
      [`/runs/${runs['flights'] ?? ''}/comments`, comment, ['root', 'ed']],
      ['/silences', silence, ['root', 'op']],
      ['/delegations', { by: 'x', to: 'viv', until: '2999-01-01T00:00:00.000Z', reason: 'away' }, ['root', 'app']],
      ['/tokens', undefined, ['root']],
      ['/tokens', { who: 'new', roles: ['viewer'], expiresAt: null, by: 'x' }, ['root']],
      ['/audit', undefined, ['root', 'viv', 'ed', 'app', 'op']],
    ];
    for (const [url, body, allowed] of table)
      for (const who of ['root', 'viv', 'ed', 'app', 'op']) {
        const { status, body: answer } = await ask(who, url, body);
        expect([url, who, status]).toEqual([url, who, allowed.includes(who) ? 200 : 403]);
        if (status === 403) expect(answer).toMatchObject({ code: 'NOT_ALLOWED', message: expect.stringContaining('role') as string });
      }
  });

  it('acts under its own name, whatever the request says', async () => {
    const { body } = await ask('ed', `/runs/${runs['fraud'] ?? ''}/comments`, { by: 'someone else', text: 'mine' });
    expect(body).toMatchObject({ who: 'ed', text: 'mine' });
    const { body: silence } = await ask('op', '/silences', { endpoint: 'z', until: '2999-01-01T00:00:00.000Z', by: 'root', reason: 'r' });
    expect(silence).toMatchObject({ by: 'op' });
  });

  it('is shown a new token once, and never its hash', async () => {
    const { body } = await ask('root', '/tokens', { who: 'late', roles: ['viewer'], projects: ['flights*'], expiresAt: null, by: 'x' });
    expect(body).toMatchObject({ who: 'late', createdBy: 'root', token: expect.stringMatching(/^mlr_[\w-]{43}$/) as string });
    tokens.set('late', String(body['token']));
    expect((await ask('late', '/runs')).status).toBe(200);
    const listed = JSON.stringify((await ask('root', '/tokens')).body);
    expect(listed).not.toContain(String(body['token']));
    expect(listed).not.toContain('hash');
    await ask('root', `/tokens/${String(body['id'])}/revoke`, { by: 'x' });
    await expect.poll(async () => (await ask('late', '/runs')).status, { timeout: 20_000 }).toBe(401);
  });
});

describe('a token of some projects', () => {
  it('is shown what is of them, and nothing else', async () => {
    expect(names((await ask('fly', '/runs')).body, 'pipeline')).toEqual(['flights']);
    expect(names((await ask('fly', '/models')).body, 'name')).toEqual(['flights-model']);
    expect(names((await ask('fly', '/endpoints')).body, 'name')).toEqual(['flights-api']);
    expect(names((await ask('fly', '/approvals')).body, 'runId')).toEqual([runs['flights']]);
    for (const url of ['/endpoints/flights-api', `/runs/${runs['flights'] ?? ''}`, '/models/flights-model/versions'])
      expect((await ask('fly', url)).status).toBe(200);
    for (const url of [
      '/endpoints/fraud-api',
      '/endpoints/fraud-api/history',
      `/runs/${runs['fraud'] ?? ''}`,
      '/models/fraud-model/versions',
      '/audit',
      '/delegations',
    ])
      expect([url, (await ask('fly', url)).status]).toEqual([url, 403]);
  });

  it("finds what is of them by MLflow's searches, page by page, and is refused what it names of others", async () => {
    const mlflow = async (who: string, path: string, body?: object) => {
      const answer = await app.inject({
        url: `/api/2.0/mlflow${path}`,
        method: body === undefined ? 'GET' : 'POST',
        headers: { authorization: `Bearer ${tokens.get(who) ?? who}` },
        ...(body === undefined ? {} : { payload: body }),
      });
      return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
    };
    const list = (body: Record<string, unknown>, key: string) => body[key] as readonly Record<string, unknown>[];
    const ids: string[] = [];
    for (const name of ['flights_by_hand', 'flightsXby_hand', 'fraud by hand']) {
      ids.push(String((await mlflow('root', '/experiments/create', { name })).body['experiment_id']));
      await mlflow('root', '/runs/create', { experiment_id: ids.at(-1), run_name: name });
    }
    const experiments = await mlflow('fly', '/experiments/search', { max_results: 100, order_by: ['name ASC'] });
    expect(list(experiments.body, 'experiments').map(({ name }) => name)).toEqual(['flights', 'flightsXby_hand', 'flights_by_hand']);
    // a page holds as many as are asked for: what is hidden takes no place in it
    const page = await mlflow('fly', '/experiments/search', { max_results: 2, order_by: ['name DESC'] });
    expect(list(page.body, 'experiments').map(({ name }) => name)).toEqual(['flights_by_hand', 'flightsXby_hand']);
    const rest = await mlflow('fly', '/experiments/search', { max_results: 2, order_by: ['name DESC'], page_token: page.body['next_page_token'] });
    expect([list(rest.body, 'experiments').map(({ name }) => name), rest.body['next_page_token']]).toEqual([['flights'], undefined]);
    // an underscore of a pattern stands for itself
    const { token } = await store.tokens.create({ who: 'exact', roles: ['viewer'], projects: ['flights_by*'], expiresAt: null, by: 'root' });
    const exact = await mlflow(token, '/experiments/search', { max_results: 9 });
    expect(list(exact.body, 'experiments').map(({ name }) => name)).toEqual(['flights_by_hand']);

    const found = await mlflow('fly', '/runs/search', { experiment_ids: ids });
    expect(
      list(found.body, 'runs')
        .map((run) => (run['info'] as { run_name: string }).run_name)
        .toSorted(),
    ).toEqual(['flightsXby_hand', 'flights_by_hand']);
    expect(list((await mlflow('fly', '/registered-models/search?max_results=1')).body, 'registered_models').map(({ name }) => name)).toEqual(['flights-model']);
    expect(list((await mlflow('fly', '/model-versions/search')).body, 'model_versions').map(({ name }) => name)).toEqual(['flights-model']);
    expect(list((await mlflow('root', '/model-versions/search')).body, 'model_versions')).toHaveLength(2);
    for (const [path, body] of [
      [`/experiments/get?experiment_id=${ids[2] ?? ''}`, undefined],
      ['/registered-models/get?name=fraud-model', undefined],
      ['/runs/create', { experiment_id: ids[2] }],
      [`/runs/get?run_id=${runs['fraud'] ?? ''}`, undefined],
    ] as const)
      expect([path, (await mlflow('fly', path, body)).status]).toEqual([path, 403]);
  });

  it('changes nothing of the others', async () => {
    const decision = { decision: 'approve', by: 'x', reason: 'fine' };
    expect((await ask('fly', `/runs/${runs['fraud'] ?? ''}/gates/production/decisions`, decision)).status).toBe(403);
    const silence = { until: '2999-01-01T00:00:00.000Z', by: 'x', reason: 'a move' };
    expect((await ask('fly', '/silences', { ...silence, endpoint: 'fraud-api' })).status).toBe(403);
    expect((await ask('fly', '/silences', { ...silence, kind: 'drift' })).status).toBe(403);
    expect((await ask('fly', '/silences', { ...silence, endpoint: 'flights-api' })).status).toBe(200);
  });
});

describe('a decision by the API', () => {
  it('goes to the workflow with a voucher in place of the token', async () => {
    sent.length = 0;
    const { status, body } = await ask('app', `/runs/${runs['flights'] ?? ''}/gates/production/decisions`, { decision: 'approve', by: 'x', reason: 'fine' });
    expect([status, body['gate']]).toEqual([200, 'production']);
    expect(sent).toMatchObject([{ workflowId: 'w-flights', name: 'approve', argument: { gate: 'production', by: 'app', reason: 'fine' } }]);
    const { voucher } = sent[0]?.argument as { readonly voucher: string };
    expect(JSON.stringify(sent)).not.toContain(tokens.get('app'));
    expect(await store.tokens.spendVoucher({ voucher, action: 'approve', workflowId: 'w-flights', name: 'flights', spentBy: '1', request: {} })).toEqual({
      who: 'app',
      roles: ['approver'],
    });
  });

  it('can be sent by hand, with a voucher that the API gives for a token', async () => {
    const { status, body } = await ask('op', '/vouchers', { action: 'rollback', workflowId: 'endpoint/flights-api' });
    expect([status, typeof body['voucher']]).toEqual([200, 'string']);
    expect((await ask('ed', '/vouchers', { action: 'rollback', workflowId: 'endpoint/flights-api' })).status).toBe(403);
    expect((await ask('fly', '/vouchers', { action: 'rollback', workflowId: 'endpoint/fraud-api' })).status).toBe(403);
    expect((await ask('fly', '/vouchers', { action: 'rollback', workflowId: 'endpoint/flights-api' })).status).toBe(200);
    expect((await ask('op', '/vouchers', { action: 'pauseRun', workflowId: 'nobody' })).status).toBe(404);
  });
});

it('with a certificate the API speaks https, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-tls-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync(
    OPENSSL,
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-keyout', keyFile, '-out', certFile, ...subject],
    { stdio: 'ignore' },
  );
  const cert = readFileSync(certFile);
  const server = createApiServer({ store, version: '0', tls: { cert, key: readFileSync(keyFile) } });
  onTestFinished(() => server.close());
  await server.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const status = await new Promise<number | undefined>((resolve, reject) => {
    request({ host: '127.0.0.1', port, path: '/healthz', ca: cert }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    })
      .on('error', reject)
      .end();
  });
  expect(status).toBe(200);
  await expect(fetch(`http://127.0.0.1:${String(port)}/healthz`)).rejects.toThrow();
});
