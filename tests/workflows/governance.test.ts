import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { createUpdateSender } from '../../api/update-sender.ts';
import { MillraceError } from '../../contracts/errors.ts';
import type { Role } from '../../contracts/identity.ts';
import { createTokenBook } from '../../store/token-book.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { millrace } from '../support/command-line.ts';
import { guideProject } from '../support/guide-project.ts';
import { failureOf, openEnvironment, PATIENCE_MS, serve, untilGate } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
const tokens = new Map<string, string>();
beforeAll(async () => {
  env = await openEnvironment();
  await serve(env);
  const { config, store } = env.deps;
  vi.stubEnv('MILLRACE_PROJECT', env.project);
  vi.stubEnv('MILLRACE_HOME', config.home);
  if (config.database.kind === 'external') vi.stubEnv('DATABASE_URL', config.database.url);
  vi.stubEnv('TEMPORAL_ADDRESS', config.temporal.address);
  vi.stubEnv('TEMPORAL_NAMESPACE', config.temporal.namespace);
  const make = async (who: string, ...roles: readonly Role[]): Promise<void> => {
    tokens.set(who, (await store.tokens.create({ who, roles, expiresAt: null, by: 'root' })).token);
  };
  await make('root', 'admin');
  await make('app', 'approver');
  await make('bea', 'approver');
  await make('ed', 'editor');
  await make('op', 'operator');
  return () => vi.unstubAllEnvs();
});

/** The command as this person types it. */
const as = (who: string, ...args: readonly string[]): ReturnType<typeof millrace> => {
  vi.stubEnv('MILLRACE_TOKEN', tokens.get(who) ?? who);
  return millrace(...args);
};
/** The code that an update is refused with; empty when it is not. */
const refusal = async (update: Promise<unknown>): Promise<string> => {
  const error = await update.then(
    () => null,
    (caught: unknown) => caught,
  );
  return error === null
    ? ''
    : ((error as { readonly cause?: { readonly type?: string } }).cause?.type ?? (error instanceof MillraceError ? error.code : 'another failure'));
};

/** A history with its payloads, which are bytes, as the text that they hold. */
const textOf = (history: unknown): string =>
  JSON.stringify(history, (key, value: unknown) => (key === 'data' && typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value));

describe('an approval, where tokens are configured', () => {
  it('is refused by the command, the API and the update alike to who may not, and given by each to who may', async () => {
    const { store, config } = env.deps;
    const run = await env.start('release', { gate: true, approvers: 2, model: 'governed', endpoint: 'governed', rollout: 'replace' });
    const { runId } = await untilGate(run, 'production');
    const reason = ['--reason', 'looked at it'];

    // a Temporal update by hand
    const send = (argument: object) => run.handle.executeUpdate('approve', { args: [{ gate: 'production', by: 'eve', reason: 'let me', ...argument }] });
    expect(await refusal(send({}))).toBe('TOKEN_NEEDED');
    expect(await refusal(send({ voucher: 'made.up' }))).toBe('VOUCHER_REFUSED');
    const voucherOf = (who: string, roles: readonly Role[]) =>
      store.tokens.issueVoucher({ identity: { who, roles, projects: ['*'] }, action: 'approve', workflowId: run.workflowId, name: 'release' });
    expect(await refusal(send({ voucher: await voucherOf('ed', ['editor']) }))).toBe('NOT_ALLOWED');

    // the command
    expect(await as('ed', 'approve', runId, ...reason)).toMatchObject({ code: 2, err: expect.stringContaining('needs the role approver') as string });
    expect(await as('nobody', 'approve', runId, ...reason)).toMatchObject({ code: 2, err: expect.stringContaining('TOKEN_NEEDED') as string });
    expect(await as('app', 'approve', runId, '--by', 'bea', ...reason)).toMatchObject({ code: 2 });
    expect((await store.approvals.get(runId, 'production')).decisions).toEqual([]);
    expect(await as('app', 'approve', runId, ...reason)).toMatchObject({ code: 0 });

    // the API
    const book = createTokenBook({ tokens: store.tokens, loopback: true });
    await book.start();
    const sender = createUpdateSender(config);
    const api = createApiServer({ store, version: '0', tokens: book, update: sender.update });
    onTestFinished(async () => {
      book.stop();
      await api.close();
      await sender.close();
    });
    const decide = async (who: string) => {
      const url = `/api/v1/runs/${runId}/gates/production/decisions`;
      const answer = await api.inject({
        method: 'POST',
        url,
        headers: { authorization: `Bearer ${tokens.get(who) ?? ''}` },
        payload: { decision: 'approve', by: 'x', reason: 'fine' },
      });
      return [answer.statusCode, answer.json<{ readonly code?: string; readonly status?: string }>()] as const;
    };
    expect(await decide('ed')).toMatchObject([403, { code: 'NOT_ALLOWED' }]);
    expect(await decide('bea')).toMatchObject([200, { status: 'approved' }]);
    await run.result();
    expect((await store.approvals.get(runId, 'production')).decisions.map(({ who }) => who)).toEqual(['app', 'bea']);

    // what the run itself brings into service goes by its own voucher, and no token is anywhere in a history
    expect(await store.endpoints.route('governed')).toMatchObject({ champion: { model: 'governed', version: 1 } });
    const histories = textOf([await run.handle.fetchHistory(), await env.client.workflow.getHandle('endpoint/governed').fetchHistory()]);
    expect(histories.includes('looked at it')).toBe(true);
    for (const token of tokens.values()) expect(histories.includes(token)).toBe(false);
  });

  it('does not take a voucher a second time, nor for another message', async () => {
    const run = await env.start('release', { gate: true, approvers: 3, model: 'twice', rollout: 'none' });
    const { runId } = await untilGate(run, 'production');
    const { store } = env.deps;
    const voucher = await store.tokens.issueVoucher({
      identity: { who: 'app', roles: ['approver'], projects: ['*'] },
      action: 'approve',
      workflowId: run.workflowId,
      name: 'release',
    });
    const message = { gate: 'production', by: 'app', reason: 'fine', voucher };
    expect(await refusal(run.handle.executeUpdate('reject', { args: [message] }))).toBe('VOUCHER_REFUSED');
    expect(await refusal(run.handle.executeUpdate('approve', { args: [message] }))).toBe('');
    expect(await refusal(run.handle.executeUpdate('approve', { args: [message] }))).toBe('VOUCHER_REFUSED');
    expect((await store.approvals.get(runId, 'production')).decisions).toMatchObject([{ who: 'app' }]);
    expect(await as('ed', 'runs', 'pause', runId)).toMatchObject({ code: 0 });
    expect(await refusal(run.handle.executeUpdate('resume', { args: [{ by: 'ed' }] }))).toBe('TOKEN_NEEDED');
    expect(await as('ed', 'runs', 'resume', runId)).toMatchObject({ code: 0 });
    expect(await as('ed', 'runs', 'cancel', runId)).toMatchObject({ code: 0 });
    await expect(run.result()).rejects.toThrow();
  });
});

it('votes from before the evidence changed do not open the gate', async () => {
  const { store } = env.deps;
  const run = await env.start('release', { gate: true, approvers: 2, model: 'moving', rollout: 'none' });
  const { runId } = await untilGate(run, 'production');
  expect(await as('app', 'approve', runId, '--reason', 'fine')).toMatchObject({ code: 0 });
  await store.models.register({ model: 'moving', predictor: 'b'.repeat(64), metrics: {}, evaluation: null });
  expect(await as('bea', 'approve', runId, '--reason', 'fine')).toMatchObject({ code: 0 });
  expect((await run.progress()).gates).toMatchObject([{ approvals: [{ by: 'bea' }] }]);
  const shown = await as('app', 'approvals', 'show', runId, 'production');
  expect(shown.out).toMatch(/version 2 of moving was registered/);
  expect(await as('app', 'approve', runId, '--reason', 'still fine')).toMatchObject({ code: 0 });
  await run.result();
  expect((await store.approvals.get(runId, 'production')).status).toBe('approved');
});

it('an approval is revoked while its rollout is watched, and what it let through goes back', async () => {
  const { store } = env.deps;
  await env.run('release', { model: 'watched', endpoint: 'watched', rollout: 'replace' });
  const soak = { rollout: 'canary', percent: [50], bakeMs: 500, soakMs: 600_000, metric: 'correct' };
  const run = await env.start('release', { path: 'models/triple.onnx', model: 'watched', endpoint: 'watched', gate: true, ...soak });
  const { runId } = await untilGate(run, 'production');
  await as('app', 'approve', runId, '--reason', 'fine');
  await run.result();
  expect(await store.endpoints.route('watched')).toMatchObject({ champion: { version: 2 } });
  const revoke = ['revoke', runId, 'production', '--reason', 'it is wrong'];
  expect(await as('op', ...revoke)).toMatchObject({ code: 2, err: expect.stringContaining('NOT_ALLOWED') as string });
  expect(await as('bea', ...revoke)).toMatchObject({ code: 0, err: '' });
  expect(await store.endpoints.route('watched')).toMatchObject({ champion: { version: 1 } });
  expect((await store.models.champion('watched'))?.version).toBe(1);
  expect(await store.approvals.get(runId, 'production')).toMatchObject({ status: 'revoked', decisions: [{ voidReason: 'taken back by bea: it is wrong' }] });
  await vi.waitUntil(async () => (await store.rollouts.list({ runId }))[0]?.status === 'rolled_back', { timeout: PATIENCE_MS });
  expect(await as('bea', ...revoke)).toMatchObject({ code: 0 });
  expect(await as('ed', 'endpoints', 'rollback', 'watched', '--reason', 'no')).toMatchObject({ code: 2 });

  // all of it stands in the log, which is whole, and in what a regulator is given
  const { out } = await as('root', 'audit', 'export', 'watched@2', '--out', `${env.project}/dossier`, '--json');
  expect(JSON.parse(out)).toMatchObject({ model: 'watched', version: 2 });
  expect((await as('root', 'audit', 'verify')).out).toMatch(/^The log is whole: \d+ entries/);
  const actions = (await store.audit.list({ subject: `runs/${runId}`, limit: 100 })).map(({ action, who }) => `${action} ${who}`);
  expect(actions).toEqual(expect.arrayContaining(['gate.approve app', 'gate.revoke bea']));
});

it('a secret that a step is given is nowhere but in the step', async () => {
  vi.unstubAllEnvs();
  vi.stubEnv('SECRET_PRICES_KEY', 'swordfish-swordfish');
  const project = await guideProject('docs/governance.md');
  const guide = await openEnvironment({ project });
  const { result, handle } = await guide.start('prices', {});
  expect(await result()).toMatchObject({ price: 'chair costs 12, asked with ***' });
  const texts = textOf(await handle.fetchHistory());
  expect([texts.includes('{{secret:PRICES_KEY}}'), texts.includes('swordfish')]).toEqual([true, false]);
  const [run] = await guide.deps.store.runs.list({ pipeline: 'prices' });
  expect(JSON.stringify(await guide.deps.store.stages.list(run?.id ?? ''))).not.toContain('swordfish');
  vi.stubEnv('SECRET_PRICES_KEY', '');
  expect(await failureOf(await guide.start('prices', { product: 'table' }))).toMatchObject({
    code: 'SECRET_MISSING',
    problems: [{ path: 'SECRET_PRICES_KEY' }],
  });
});
