import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import type { MonitorWindow } from '../../store/monitoring.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let app: ReturnType<typeof createApiServer>;
let store: Store;
const hour = (n: number): string => new Date(Date.UTC(2026, 0, 1, n)).toISOString();
const champion = { model: 'late', version: 1, predictor: 'a'.repeat(64) };

beforeAll(async () => {
  store = await freshStore();
  app = createApiServer({ store, version: '1.2.3' });
  const runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: 'w', temporalRunId: 't', pipeline: 'watched', params: {}, trigger: { kind: 'cli' } });
  const { token } = await store.stages.begin({ runId, name: 'register', kind: 'register', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  await store.models.register({ model: 'late', predictor: champion.predictor, metrics: {}, evaluation: null, by: { runId, stage: 'register', token } });
  const rollout = randomBytes(16).toString('hex');
  await store.rollouts.create({ id: rollout, endpoint: 'late', model: 'late', version: 1, strategy: {}, by: { runId, stage: 'deploy' } });
  await store.endpoints.setRoute({ route: { endpoint: 'late', epoch: 1, champion, challenger: null, log: true }, expectedEpoch: 0, rolloutId: rollout });
  for (let n = 0; n < 5; n++) {
    const figures = { rows: 100 + n, version: { model: 'late', version: 1 }, verdict: n === 3 ? 'drifted' : 'steady', notes: ['no label has come yet'] };
    await store.monitoring.putWindow({ endpoint: 'late', from: hour(n), to: hour(n + 1), figures, drifted: n === 3 });
  }
});

const get = async (url: string) => {
  const answer = await app.inject({ url: `/api/v1/endpoints/${url}` });
  return { status: answer.statusCode, body: answer.json<{ items: MonitorWindow[]; next: string | null; code: string }>() };
};

describe("an endpoint's windows in the API", () => {
  it('are told newest first with all their figures', async () => {
    const { status, body } = await get('late/windows');
    expect(status).toBe(200);
    expect(body.items.map(({ from, drifted }) => [from, drifted])).toEqual([4, 3, 2, 1, 0].map((n) => [hour(n), n === 3]));
    expect(body.items[1]).toMatchObject({ endpoint: 'late', to: hour(4), figures: { rows: 103, verdict: 'drifted', notes: ['no label has come yet'] } });
    expect(body.next).toBeNull();
  });

  it('come page by page, each once', async () => {
    const seen: string[] = [];
    for (let next: string | null = ''; next !== null; ) {
      const { body } = await get(`late/windows?limit=2${next === '' ? '' : `&after=${encodeURIComponent(next)}`}`);
      seen.push(...body.items.map(({ from }) => from));
      next = body.next;
    }
    expect(seen).toEqual([4, 3, 2, 1, 0].map(hour));
  });

  it('are refused of an endpoint that is not there, and of a page that is none', async () => {
    expect((await get('unknown/windows')).body.code).toBe('ENDPOINT_NOT_FOUND');
    const { status } = await get('late/windows?after=yesterday');
    expect(status).toBe(400);
  });
});
