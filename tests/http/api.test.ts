import { randomBytes } from 'node:crypto';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { RESOURCES } from '../../api/resources.ts';
import { openStore, type Store } from '../../store/store.ts';
import { createTokenBook } from '../../store/token-book.ts';
import { emptyDatabase, freshStore } from '../support/database.ts';
import { triggerEntry } from '../support/trigger-entry.ts';

let store: Store;
let runId: string;
let app: ReturnType<typeof createApiServer>;
beforeAll(async () => {
  store = await freshStore();
  app = createApiServer({ store, version: '1.2.3' });
  runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: 'w', temporalRunId: 't', pipeline: 'flightDelay', params: { a: 1 }, trigger: { kind: 'cli' } });
  const { token } = await store.stages.begin({ runId, name: 'register', kind: 'register', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  await store.models.register({
    model: 'flight-delay',
    predictor: 'a'.repeat(64),
    metrics: { auc: 0.7 },
    evaluation: null,
    by: { runId, stage: 'register', token },
  });
  await store.stages.complete({ runId, name: 'register', token, output: { version: 1 }, metrics: [{ key: 'auc', value: 0.7 }] });
  await store.datasets.put({ id: 'd'.repeat(64), name: 'flights', rows: 3, columns: [], sizeBytes: 1 });
  const rollout = randomBytes(16).toString('hex');
  await store.rollouts.create({ id: rollout, endpoint: 'flight-delay', model: 'flight-delay', version: 1, strategy: {}, by: { runId, stage: 'deploy' } });
  const champion = { model: 'flight-delay', version: 1, predictor: 'a'.repeat(64) };
  await store.endpoints.setRoute({
    route: { endpoint: 'flight-delay', epoch: 1, champion, challenger: null, log: true },
    expectedEpoch: 0,
    rolloutId: rollout,
  });
  await store.approvals.request({ runId, gate: 'production', evidence: {}, expiresAt: null });
  await store.retraining.put({
    pipeline: 'flightDelay',
    controller: 'c',
    revision: 1,
    entries: [{ entry: triggerEntry({ reason: 'drift', fate: 'running' }) }],
  });
  await store.retraining.openExperiment({
    pipeline: 'flightDelay',
    workflowId: 'w',
    because: 'three in a row',
    evidence: { triggers: [], runs: [], findings: [] },
    tune: null,
  });
});

const get = async (url: string, headers: Record<string, string> = {}) => {
  const answer = await app.inject({ url, headers });
  return { status: answer.statusCode, body: answer.json<Record<string, never>>(), headers: answer.headers };
};

describe('the API', () => {
  it('shows a run with everything that belongs to it', async () => {
    const { status, body, headers } = await get(`/api/v1/runs/${runId}`);
    expect(status).toBe(200);
    expect(headers['x-request-id']).toBeTruthy();
    expect(body).toMatchObject({
      id: runId,
      pipeline: 'flightDelay',
      status: 'running',
      params: { a: 1 },
      stages: [{ name: 'register', status: 'completed', output: { version: 1 } }],
      metrics: [{ key: 'auc', value: 0.7 }],
      versions: [{ model: 'flight-delay', version: 1, status: 'candidate' }],
      rollouts: [{ endpoint: 'flight-delay', status: 'queued' }],
      approvals: [{ gate: 'production', status: 'pending' }],
      undos: [{ kind: 'version' }, { kind: 'alias' }, { kind: 'route' }],
    });
  });

  it('lists models, versions, endpoints, datasets, gates and the retraining ledger', async () => {
    expect((await get('/api/v1/models')).body).toMatchObject({ items: [{ name: 'flight-delay', aliases: [{ alias: 'candidate', version: 1 }] }], next: null });
    expect((await get('/api/v1/models/flight-delay/versions')).body).toMatchObject({ items: [{ version: 1, runId }] });
    expect((await get('/api/v1/endpoints')).body).toMatchObject({ items: [{ name: 'flight-delay', route: { epoch: 1 } }] });
    expect((await get('/api/v1/endpoints/flight-delay')).body).toMatchObject({
      route: { champion: { version: 1 } },
      rollouts: [{ epoch: 1 }],
      history: [{ epoch: 1 }],
    });
    expect((await get('/api/v1/datasets?name=flights')).body).toMatchObject({ items: [{ rows: 3 }] });
    expect((await get('/api/v1/approvals?status=pending')).body).toMatchObject({ items: [{ gate: 'production', decisions: [] }] });
    expect((await get('/api/v1/retrainings/flightDelay')).body).toMatchObject({ items: [{ fate: 'running', reason: 'drift' }] });
    expect((await get('/api/v1/retrainings/flightDelay/1')).body).toMatchObject({ number: 1, reason: 'drift' });
    expect((await get('/api/v1/experiments?pipeline=flightDelay&open=true')).body).toMatchObject({ items: [{ because: 'three in a row', closedAt: null }] });
  });

  it('gives long lists page by page, each item once', async () => {
    for (let i = 0; i < 5; i++) {
      const id = randomBytes(16).toString('hex');
      await store.runs.begin({ runId: id, workflowId: id, temporalRunId: 't', pipeline: 'paged', params: {}, trigger: { kind: 'cli' } });
    }
    const ids: string[] = [];
    let after = '';
    for (let pages = 0; pages < 10; pages++) {
      const body = (await get(`/api/v1/runs?pipeline=paged&limit=2${after}`)).body as unknown as { items: { id: string }[]; next: string | null };
      ids.push(...body.items.map((run) => run.id));
      if (body.next === null) break;
      after = `&after=${body.next}`;
    }
    expect(ids).toHaveLength(5);
    expect(new Set(ids).size).toBe(5);
  });

  it('lists everything that does not fit in a request, and never gives more than a page', async () => {
    const { status, body } = await get('/api/v1/runs?limit=100000&status=exploded&pipeline=../etc&colour=red');
    expect(status).toBe(400);
    const { code, problems } = body as unknown as { code: string; problems: { path: string }[] };
    expect(code).toBe('INVALID_REQUEST');
    expect(problems.map((p) => p.path).sort()).toEqual(['limit', 'pipeline', 'query', 'status']);
  });

  it('answers what is not there with an error report that says so', async () => {
    expect(await get(`/api/v1/runs/${'0'.repeat(32)}`)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect(await get('/api/v1/models/none/versions')).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect(await get('/api/v1/endpoints/none')).toMatchObject({ status: 404, body: { code: 'ENDPOINT_NOT_FOUND' } });
    expect(await get('/api/v1/nothing')).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect(await get('/api/v1/runs/not-a-run')).toMatchObject({ status: 400, body: { code: 'INVALID_REQUEST' } });
    const broken = await app.inject({ method: 'POST', url: '/api/v1/runs', payload: '{', headers: { 'content-type': 'application/json' } });
    expect(broken.statusCode).toBe(400);
    expect(broken.json()).toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('describes each of its paths in an OpenAPI document whose schemas are valid', async () => {
    const { body } = await get('/api/v1/openapi.json');
    const document = body as unknown as {
      openapi: string;
      info: { version: string };
      paths: Record<string, Record<string, { operationId: string; parameters: { in: string; name: string; schema: object }[] }>>;
      components: { schemas: Record<string, object> };
    };
    expect(document).toMatchObject({ openapi: '3.1.0', info: { version: '1.2.3' } });
    expect(Object.keys(document.paths)).toEqual([...new Set(RESOURCES.map((r) => `/api/v1${r.path}`))]);
    const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
    expect(new Set(operations.map((o) => o.operationId)).size).toBe(RESOURCES.length);
    for (const [path, methods] of Object.entries(document.paths))
      for (const operation of Object.values(methods))
        expect(operation.parameters.filter((p) => p.in === 'path').map((p) => `{${p.name}}`)).toEqual(path.match(/\{\w+\}/g) ?? []);

    // The answers are what the document says they are.
    const ajv = new Ajv({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'api', components: document.components });
    const failure = ajv.getSchema('api#/components/schemas/Error')!;
    expect(failure((await get('/api/v1/nothing')).body)).toBe(true);
    const page = ajv.getSchema('api#/components/schemas/Page')!;
    expect(page((await get('/api/v1/runs')).body)).toBe(true);
  });

  it('is alive without Postgres, but neither ready nor leaking why', async () => {
    const away = openStore({ databaseUrl: 'postgres://user:secret-password@127.0.0.1:1/none' });
    const server = createApiServer({ store: away, version: '0' });
    expect((await server.inject('/healthz')).json()).toEqual({ status: 'ok' });
    const ready = await server.inject('/readyz');
    expect(ready.statusCode).toBe(503);
    const runs = await server.inject('/api/v1/runs');
    expect(runs.statusCode).toBe(503);
    expect(runs.json()).toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(ready.body + runs.body).not.toContain('secret-password');
    await away.close();
  });

  it('is ready once the schema is there', async () => {
    const empty = openStore({ databaseUrl: await emptyDatabase() });
    const server = createApiServer({ store: empty, version: '0' });
    expect((await server.inject('/readyz')).json()).toMatchObject({ status: 'not ready', reachable: true, schemaCurrent: false });
    await empty.migrate();
    expect((await server.inject('/readyz')).statusCode).toBe(200);
    await empty.close();
  });

  it('answers nothing but its health without the token, when one is set', async () => {
    const { databaseUrl: _own, ...guarded } = await freshStore();
    const tokens = createTokenBook({ tokens: guarded.tokens, adminToken: 'a-long-token', loopback: false });
    await tokens.start();
    onTestFinished(() => tokens.stop());
    const server = createApiServer({ store: guarded, version: '0', tokens });
    for (const url of ['/healthz', '/readyz']) expect((await server.inject(url)).statusCode).toBe(200);
    for (const authorization of [undefined, 'Bearer wrong', 'a-long-token', 'Bearer a-long-token2']) {
      const answer = await server.inject({ url: '/api/v1/runs', headers: authorization === undefined ? {} : { authorization } });
      expect(answer.statusCode).toBe(401);
      expect(answer.headers['www-authenticate']).toBe('Bearer');
      expect(answer.json()).toMatchObject({ code: 'TOKEN_NEEDED' });
    }
    expect((await server.inject('/metrics')).statusCode).toBe(401);
    expect((await server.inject({ url: '/api/v1/runs', headers: { authorization: 'Bearer a-long-token' } })).statusCode).toBe(200);
  });

  it('is read by Prometheus over a real connection', async () => {
    const server = createApiServer({ store, version: '0' });
    const address = await server.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(() => server.close());
    await fetch(`${address}/api/v1/nothing`);
    const answer = await fetch(`${address}/metrics`);
    expect(answer.headers.get('content-type')).toContain('text/plain; version=0.0.4');
    const lines = (await answer.text()).trimEnd().split('\n');
    expect(lines).toContain('millrace_runs{pipeline="flightDelay",status="running"} 1');
    expect(lines).toContain('millrace_api_responses_total{status="4xx"} 1');
    for (const line of lines) expect(line).toMatch(/^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[\d.e+-]+)$/);
  });
});
