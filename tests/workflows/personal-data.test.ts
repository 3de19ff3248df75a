/**
 * Personal values through a whole run, and where they must not be: nowhere but in the source. Everything that Millrace
 * keeps or says is searched: the state folder (Parquet by its rows), Postgres, Temporal's histories, the logs.
 */
import { readdir, readFile } from 'node:fs/promises';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { projectHashKey } from '../../config/hash-key.ts';
import { packageRoot } from '../../config/package-root.ts';
import { ModelCardSchema } from '../../contracts/model-card.ts';
import type { DatasetRef } from '../../contracts/references.ts';
import { loadManifest } from '../../data/dataset.ts';
import { withDuckDb } from '../../data/duckdb.ts';
import { createPredictionServer } from '../../serving/server.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { freshDatabase } from '../support/database.ts';
import { failureOf, openEnvironment } from './test-project.ts';

const ROWS = 400;
const digits = (n: number, length: number): string => String(n).padStart(length, '0');
const email = (n: number): string => `zebrafinch${digits(n, 3)}@example.org`;
const phone = (n: number): string => `+44 7700 900${digits(n, 3)}`;
const ssn = (n: number): string => `219-09-${digits(1_000 + n, 4)}`;
/** The digits of one alone, as a number or a word of its own: within longer numbers they come about by chance. */
const BARE_SSN = /(?<![\d.])21909[12]\d{3}(?!\d)/;
/** What every value of the three columns has in it, those of requests too. */
const MARKERS = ['zebrafinch', '7700 900', '7700900', '219-09-', BARE_SSN, 'wombat', '0142-77', 'aardvark'];

const PIPELINE = `
import { categorical, clean, definePipeline, deploy, ensemble, evaluate, expectations, featureView, gbdt, ingest, inSet, linear, lowerCase, mapValues, matches, notNull, numeric, over,
  register, rename, replace, rowCount, set, split, steps, train, trim, trainingSet, unique, validate, call, col } from 'millrace';
import { z } from 'zod';
import type * as memberSteps from './steps.ts';

const { withInitials } = steps<typeof memberSteps>();
const spending = featureView({ name: 'spending', entity: 'email', eventTime: 'at', features: { visits: over('7 days', 'count'), last_phone: 'phone' } });

export const members = definePipeline(
  { params: z.object({ path: z.string().default('data/members.csv'), strict: z.boolean().default(false), personal: z.boolean().default(true), types: z.record(z.string(), z.any()).default({}) }) },
  async (p) => {
    const raw = await ingest({
      name: 'members', source: { format: 'csv', path: p.path, types: p.types }, pii: { email: 'hash', phone: 'mask', ssn: 'drop' },
      golden: { fraction: 0.1, by: ['id'], seed: 1 },
    });
    const checked = await validate(raw, {
      expectations: expectations({
        table: [rowCount({ min: 1 })],
        email: [unique({ severity: 'warn' }), matches(/@/, { severity: p.strict ? 'fail' : 'warn' }), inSet(['someone@example.com'], { severity: 'warn' })],
        phone: [notNull(), matches(/^\\+/, { severity: 'warn' })],
      }),
      ...(p.strict ? {} : { quarantine: { atMost: 0.5 } }),
    });
    const tidy = await clean(checked, [trim(['email']), lowerCase(['email']), set('key', call('concat', col('email'), col('phone')))]);
    const stepped = await withInitials(tidy);
    const joined = await trainingSet(stepped, { eventTime: 'at', views: [{ view: spending, from: checked }] });
    const { train: fit, validation, test } = await split(tidy, { by: 'fixed', seed: 2 });
    const candidate = await train(fit, {
      trainer: linear({ l2: 1 }), target: 'left',
      features: { amount: numeric(), email: categorical({ minCount: 1, ...(p.personal ? { personal: true } : {}) }) }, validation,
    });
    const judged = await evaluate(candidate, { on: test });
    const version = await register(judged, { model: 'members' });
    const other = await train(fit, { trainer: gbdt({ trees: 3 }), target: 'left', features: { amount: numeric() }, validation });
    await register(await ensemble([candidate, other], { kind: 'voting' }), { model: 'members-joined' });
    await deploy(version, { endpoint: 'members', rollout: replace() });
    return { checked, tidy, stepped, joined, fit };
  },
);
`;
const STEPS = `
import { relationStep } from 'millrace/steps';
export const withInitials = relationStep(({ name }) => \`SELECT *, email AS customer FROM \${name}\`);
`;

let env: TestEnvironment & { readonly project: string };
let logged = '';
const writers = [process.stdout, process.stderr] as const;
const originals = writers.map((stream) => stream.write.bind(stream));

beforeAll(async () => {
  const project = await mkdtemp(join(tmpdir(), 'millrace-members-'));
  afterAll(() => rm(project, { recursive: true, force: true }));
  const files: Readonly<Record<string, string>> = {
    'package.json': '{ "name": "members", "type": "module", "private": true }',
    'pipelines/members/pipeline.ts': PIPELINE,
    'pipelines/members/steps.ts': STEPS,
  };
  for (const folder of ['pipelines/members', 'data', 'node_modules']) await mkdir(join(project, folder), { recursive: true });
  for (const [path, text] of Object.entries(files)) await writeFile(join(project, path), text);
  for (const name of ['@temporalio', 'zod']) await symlink(join(packageRoot, 'node_modules', name), join(project, 'node_modules', name));
  const line = (n: number): string =>
    [
      n,
      email(n % 150),
      n % 9 === 0 ? '' : phone(n),
      ssn(n),
      (n * 37) % 100,
      `2026-01-${digits(1 + (n % 28), 2)}T10:00:00Z`,
      (n * 37) % 100 > 50 ? 'yes' : 'no',
    ].join(',');
  const header = 'id,email,phone,ssn,amount,at,left';
  const lines = Array.from({ length: ROWS }, (_, n) => line(n));
  const data = (name: string, all: readonly string[]): Promise<void> => writeFile(join(project, 'data', name), `${all.join('\n')}\n`);
  await data('members.csv', [header, ...lines]);
  await data('headless.csv', lines.slice(1));
  await data('ragged.csv', [header, ...lines.slice(0, 50), `${line(50)},${email(51)},${ssn(52)}`, ...lines.slice(51)]);
  await data('quotes.csv', [header, ...lines.slice(0, 50), line(50).replace(email(50), `"${email(50)}" ${email(51)}"`), ...lines.slice(51)]);
  writers.forEach((stream, index) => {
    stream.write = (chunk: Uint8Array | string, ...rest: never[]): boolean => {
      logged += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
      return originals[index]?.(chunk, ...rest) ?? true;
    };
  });
  env = await openEnvironment({ project, databaseUrl: (databaseUrl = await freshDatabase()) });
}, 180_000);
let databaseUrl = '';
afterAll(() => {
  writers.forEach((stream, index) => {
    stream.write = originals[index] as typeof stream.write;
  });
});

const holds = (text: string, marker: string | RegExp): boolean => (typeof marker === 'string' ? text.includes(marker) : marker.test(text));

/** Files that hold one of the markers, read as what they are. */
async function inFiles(folder: string, markers: readonly (string | RegExp)[]): Promise<readonly string[]> {
  const found: string[] = [];
  const entries = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const bytes = await readFile(path);
    const texts = [bytes.toString('latin1')];
    if (bytes.subarray(0, 4).toString('latin1') === 'PAR1') {
      texts.push(await withDuckDb({}, async (db) => JSON.stringify(await db.rows(`SELECT CAST(to_json(t) AS VARCHAR) AS t FROM read_parquet('${path}') t`))));
    } else if (bytes[0] === 0x1f && bytes[1] === 0x8b) texts.push(gunzipSync(bytes).toString('latin1'));
    for (const text of texts) for (const marker of markers) if (holds(text, marker)) found.push(`${path}: ${String(marker)}`);
  }
  return found;
}

/** Tables of the database that hold one of the markers, in whatever column. */
async function inPostgres(markers: readonly (string | RegExp)[]): Promise<readonly string[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const found: string[] = [];
  try {
    const { rows: tables } = await client.query<{ name: string }>(
      "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
    );
    for (const { name } of tables) {
      const { rows } = await client.query<{ t: string }>(`SELECT to_jsonb(t)::text AS t FROM ${name} t`);
      const text = rows.map(({ t }) => t.replace(/\\\\x([0-9a-f]+)/g, (_, hex: string) => Buffer.from(hex, 'hex').toString('latin1'))).join('\n');
      for (const marker of markers) if (holds(text, marker)) found.push(`${name}: ${String(marker)}`);
    }
  } finally {
    await client.end();
  }
  return found;
}

/** All texts of a history, payloads among them. */
function* textsOf(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (value instanceof Uint8Array) yield Buffer.from(value).toString('utf8');
  else if (typeof value === 'object' && value !== null) for (const one of Object.values(value)) yield* textsOf(one);
}

/** Workflows of the namespace whose history holds one of the markers, payloads decoded. */
async function inHistories(markers: readonly (string | RegExp)[]): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const { workflowId, runId } of env.client.workflow.list()) {
    const text = [...textsOf(await env.client.workflow.getHandle(workflowId, runId).fetchHistory())].join('\n');
    for (const marker of markers) if (holds(text, marker)) found.push(`${workflowId}: ${String(marker)}`);
  }
  return found;
}

describe('personal values', () => {
  it('are in nothing that a pipeline leaves behind, from ingest to predictions, whether it succeeds or fails', async () => {
    const { store, artifacts, config } = env.deps;
    const server = createPredictionServer({
      serverId: 'members-server',
      host: '127.0.0.1',
      port: 0,
      home: config.home,
      serverVersion: '0',
      routes: { listRoutes: () => store.endpoints.listRoutes() },
      registry: store.servers,
      stats: store.stats,
      artifacts,
      hashKey: projectHashKey(config.home),
      log: (level, message, details) => {
        logged += `${level} ${message} ${JSON.stringify(details ?? {})}\n`;
      },
      pollEveryMs: 200,
      drainMs: 10,
    });
    const { url } = await server.start();
    const made = (await env.run('members')) as unknown as Readonly<Record<'checked' | 'tidy' | 'stepped' | 'joined' | 'fit', DatasetRef>>;
    const sensitive = async (ref: DatasetRef) => (await loadManifest(env.deps.artifacts, ref)).sensitive;
    expect(made.checked.rows).toBeLessThan(ROWS);
    expect(await sensitive(made.fit)).toEqual({ email: 'hash', phone: 'mask', key: 'hash' });
    expect(await sensitive(made.stepped)).toEqual({ email: 'hash', phone: 'mask', key: 'hash', customer: 'hash' });
    expect(await sensitive(made.joined)).toMatchObject({ customer: 'hash', last_phone: 'mask' });
    const kinds = (await env.deps.store.datasets.list({ limit: 100 })).map(({ kind }) => kind);
    expect(kinds).toEqual(expect.arrayContaining(['ingest', 'golden', 'validate', 'quarantine', 'clean', 'step', 'features', 'split']));

    // parts of a feature bear values in their names, also in what an ensemble takes over from its members
    for (const model of ['members', 'members-joined']) {
      const card = ModelCardSchema.parse(await artifacts.getJson((await store.models.version(model, 1)).card ?? ''));
      expect(card.importance.map(({ feature }) => feature).sort()).toEqual(['amount', 'email']);
      expect(card.data.map(({ role }) => role)).toEqual(expect.arrayContaining(['training', 'validation']));
    }

    // a model may learn from a hash only when its author says so
    expect(await failureOf(await env.start('members', { personal: false }))).toMatchObject({
      code: 'FEATURES_INVALID',
      problems: [{ path: 'features.email', column: 'email' }],
    });
    const strict = await failureOf(await env.start('members', { strict: true }));
    expect(strict).toMatchObject({ code: 'EXPECTATIONS_FAILED' });
    expect(strict.problems.map(({ column }) => column)).toEqual(expect.arrayContaining(['email', 'phone']));
    const failures = [
      strict,
      await failureOf(await env.start('members', { path: 'data/headless.csv' })),
      await failureOf(await env.start('members', { path: 'data/headless.csv', types: { ssn: 'string' } })),
      await failureOf(await env.start('members', { path: 'data/ragged.csv' })),
      await failureOf(await env.start('members', { path: 'data/quotes.csv' })),
      await failureOf(await env.start('members', { types: { phone: 'integer' } })),
      await failureOf(await env.start('members', { types: { email: 'timestamp' } })),
    ];
    expect(failures.map(({ code }) => code)).toEqual([
      'EXPECTATIONS_FAILED',
      'COLUMN_MISSING',
      'COLUMN_MISSING',
      'SOURCE_MALFORMED',
      'SOURCE_MALFORMED',
      'SOURCE_MALFORMED',
      'SOURCE_MALFORMED',
    ]);
    expect(MARKERS.filter((marker) => holds(JSON.stringify(failures), marker))).toEqual([]);

    try {
      const send = (body: string): Promise<Response> =>
        fetch(`${url}/predict/members`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
      const row = { email: 'wombat@example.org', amount: 20 };
      expect((await send(JSON.stringify({ rows: [row] }))).status).toBe(200);
      expect((await send(JSON.stringify({ rows: [row, { email: email(3), amount: 80 }] }))).status).toBe(200);
      expect((await send(JSON.stringify({ rows: [{ email: email(4), amount: 'aardvark' }] }))).status).toBe(400);
      expect((await send(JSON.stringify({ rows: [{ email: { of: 'wombat' }, amount: 1 }] }))).status).toBe(400);
    } finally {
      await server.stop();
    }
    const folder = join(config.home, 'predictions', 'members');
    const lines = (await Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name), 'utf8')))).join('').trim().split('\n');
    expect(lines).toHaveLength(3);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ inputs: { amount: 20, email: expect.stringMatching(/^[0-9a-f]{64}$/) as string } });

    expect(holds(`[${ssn(7).replaceAll('-', '')}]`, BARE_SSN)).toBe(true);
    // the search finds what is there: what masked values are shown as, and the model's name
    expect((await inFiles(config.home, ['***'])).length).toBeGreaterThan(5);
    expect((await inPostgres(['members-golden'])).length).toBeGreaterThan(0);
    expect((await inHistories(['members-train'])).length).toBeGreaterThan(0);
    expect(await inFiles(config.home, MARKERS)).toEqual([]);
    expect(await inPostgres(MARKERS)).toEqual([]);
    expect(await inHistories(MARKERS)).toEqual([]);
    expect(logged).toContain('members');
    expect(MARKERS.filter((marker) => holds(logged, marker))).toEqual([]);
  }, 300_000);
});
