import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { expressionInWords, featureInWords } from '../../cli/features-commands.ts';
import { runCommandLine } from '../../cli/program.ts';
import { call, col, hashed } from '../../contracts/row-transforms.ts';
import { featureView, over } from '../../workflows/feature-view.ts';
import { freshStore } from '../support/database.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

const AS_OF = new Date(Date.now() - 3 * 3_600_000).toISOString();
const SNAPSHOT = 'a'.repeat(64);
const view = featureView({
  name: 'spending',
  entity: ['shop', 'customer'],
  eventTime: 'at',
  owner: 'payments',
  ttl: '30 days',
  features: { amount: 'amount', cents: call('multiply', col('amount'), 100), orders: over('7 days', 'count'), mean: over('90 minutes', 'mean', 'amount') },
});

let store: Awaited<ReturnType<typeof freshStore>>;
let app: ReturnType<typeof createApiServer>;
beforeAll(async () => {
  const home = await mkdtemp(join(tmpdir(), 'millrace-features-'));
  afterAll(() => rm(home, { recursive: true, force: true }));
  store = await freshStore();
  vi.stubEnv('DATABASE_URL', store.databaseUrl);
  vi.stubEnv('MILLRACE_HOME', home);
  afterAll(() => {
    vi.unstubAllEnvs();
  });
  app = createApiServer({ store, version: '1.2.3' });
  const by = { runId: randomBytes(16).toString('hex'), stage: 'materialize-spending' };
  await store.runs.begin({ runId: by.runId, workflowId: 'w', temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  const { token } = await store.stages.begin({ ...by, name: by.stage, kind: 'materialize', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  const { featureViews, models } = store;
  await featureViews.declare({ view: { ...view, ttlMs: null }, definition: 'b'.repeat(64) });
  const version = await featureViews.declare({ view, definition: 'c'.repeat(64) });
  const begun = await featureViews.begin({ view: 'spending', version, snapshot: SNAPSHOT, asOf: AS_OF, ...by, token });
  if (begun.state !== 'writing') throw new Error('the values were not taken');
  await featureViews.write(begun.set, [{ key: 'k', atMs: 0, values: '{}' }]);
  await featureViews.publish({ set: begun.set, entities: 1, ...by, token });
  await featureViews.declare({ view: { ...view, name: 'weather' }, definition: 'd'.repeat(64) });
  const features = [{ view: 'spending', definition: 'c'.repeat(64) }];
  await models.register({ model: 'churn', predictor: 'e'.repeat(64), metrics: {}, evaluation: null, features });
});

async function millrace(...args: string[]): Promise<{ readonly code: number; readonly out: string }> {
  const terminal = recordedTerminal({ columns: 160 });
  return { code: await runCommandLine(args, terminal), out: terminal.out() };
}

const ONLINE = { asOf: AS_OF, entities: 1, snapshot: SNAPSHOT, stage: 'materialize-spending' };

describe('feature views', () => {
  it('are listed with owner, freshness, rows, snapshot and the models that use them', async () => {
    const { code, out } = await millrace('features', 'list');
    expect(code).toBe(0);
    const [head, spending, weather] = out.split('\n');
    expect(head).toMatch(/^VIEW +VERSION +OWNER +FRESHNESS +ENTITIES +SNAPSHOT +FEATURES +MODELS$/);
    expect(spending).toMatch(/^spending +2 +payments +3 h 00 min +1 +a{12} +amount, cents, mean, orders +churn 1$/);
    expect(weather).toMatch(/^weather +1 +payments +not materialized/);
    const listed = JSON.parse((await millrace('features', 'list', '--json')).out) as readonly { readonly freshnessSeconds: number }[];
    expect(listed).toMatchObject([
      { name: 'spending', version: 2, online: ONLINE, models: [{ model: 'churn', version: 1 }] },
      { name: 'weather', online: null },
    ]);
    expect(listed[0]?.freshnessSeconds).toBeGreaterThanOrEqual(3 * 3_600);
  });

  it('are shown with each feature in words and with older versions', async () => {
    const { code, out } = await millrace('features', 'show', 'spending');
    expect(code).toBe(0);
    for (const line of [
      /^view +spending 2$/m,
      /^entity +shop, customer$/m,
      /^time to live +30 d 0 h$/m,
      new RegExp(`^values as of +${AS_OF}$`, 'm'),
      /^models +churn 1$/m,
      /^amount +last amount$/m,
      /^cents +of the last row: multiply\(amount, 100\)$/m,
      /^orders +rows over 7 d$/m,
      /^mean +mean of amount over 1 h 30 min$/m,
      /^ +1 .* not materialized$/m,
    ])
      expect(out).toMatch(line);
    expect((await millrace('features', 'show', 'weather')).out).toContain('materialize(view, { from })');
    expect((await millrace('features', 'show', 'nobody')).code).toBe(2);
  });

  it('are answered by the API, page by page', async () => {
    const get = async (url: string) => (await app.inject({ url: `/api/v1${url}` })).json<{ readonly items: readonly object[]; readonly next: string | null }>();
    const first = await get('/features?limit=1');
    expect(first).toMatchObject({ items: [{ name: 'spending', owner: 'payments', online: ONLINE }], next: 'spending' });
    expect(await get(`/features?limit=1&after=${first.next ?? ''}`)).toMatchObject({ items: [{ name: 'weather', freshnessSeconds: null }], next: null });
    expect(await get('/features/spending')).toMatchObject({ name: 'spending', versions: [{ version: 2 }, { version: 1, online: null }] });
    expect((await app.inject({ url: '/api/v1/features/nobody' })).statusCode).toBe(404);
  });

  it('say what is computed as it was written', () => {
    expect(expressionInWords(call('if', call('equal', col('a'), 'x"'), hashed(col('b')), null))).toBe('if(equal(a, "x\\""), hashed(b), null)');
    expect(featureInWords(over('1 hour', 'last', call('trim', col('a'))))).toBe('last of trim(a) over 1 h');
    expect(featureInWords(over('45 seconds', 'count', 'a'))).toBe('count of a over 45.0 s');
  });
});
