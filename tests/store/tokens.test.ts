import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTokenBook } from '../../store/token-book.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store & { readonly databaseUrl: string };
beforeAll(async () => {
  store = await freshStore();
});
const basic = (user: string, password: string): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const bearer = (token: string): string => `Bearer ${token}`;
const inSeconds = (seconds: number): string => new Date(Date.now() + 1_000 * seconds).toISOString();

async function query(text: string): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: store.databaseUrl });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

describe('tokens', () => {
  it('are not needed before the first one, which must be an admin’s', async () => {
    expect(await store.tokens.live()).toEqual({ needed: false, tokens: [] });
    await expect(store.tokens.create({ who: 'ada', roles: ['editor'], expiresAt: null, by: 'ada' })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    const { token } = await store.tokens.create({ who: 'ada', roles: ['admin'], expiresAt: null, by: 'ada' });
    expect(await store.tokens.identify(token)).toMatchObject({ needed: true, identity: { who: 'ada', roles: ['admin'], projects: ['*'] } });
    expect(await store.tokens.identify(undefined)).toEqual({ needed: true, identity: null });
  });

  it('are nowhere kept as they are: neither in their table nor in the log', async () => {
    const { token, record } = await store.tokens.create({ who: 'bo', roles: ['viewer'], expiresAt: null, by: 'ada' });
    const kept = JSON.stringify([await query('select * from access_tokens'), await query('select * from audit_log')]);
    expect(kept).toContain(record.id);
    expect(kept).not.toContain(token);
    expect(JSON.stringify(await store.tokens.list({ all: true }))).not.toMatch(/hash/);
  });

  it('are good until they expire or are revoked, and stay needed after that', async () => {
    const { token, record } = await store.tokens.create({ who: 'cy', roles: ['viewer'], expiresAt: inSeconds(60), by: 'ada' });
    expect((await store.tokens.identify(token)).identity?.who).toBe('cy');
    await query(`update access_tokens set expires_at = now() - interval '1 second' where id = '${record.id}'`);
    expect(await store.tokens.identify(token)).toEqual({ needed: true, identity: null });
    const other = await store.tokens.create({ who: 'cy', roles: ['viewer'], expiresAt: null, by: 'ada' });
    await store.tokens.revoke({ id: other.record.id, by: 'ada' });
    expect(await store.tokens.revoke({ id: other.record.id, by: 'bo' })).toMatchObject({ revokedBy: 'ada' });
    expect((await store.tokens.identify(other.token)).identity).toBeNull();
    expect((await store.audit.list({ subject: `tokens/${other.record.id}` })).map(({ action }) => action)).toEqual(['token.revoke', 'token.create']);
  });

  it('tell every problem of one that does not fit', async () => {
    const made = store.tokens.create({ who: 'x', roles: [], projects: ['a b'], expiresAt: '2001-01-01T00:00:00.000Z', by: 'ada' });
    await expect(made).rejects.toMatchObject({ code: 'INVALID_REQUEST', problems: [{ path: 'roles' }, { path: 'projects' }, { path: 'expires' }] });
  });

  it('of MILLRACE_ADMIN_TOKEN: made once, replaced when the variable changes, and dead once revoked', async () => {
    await Promise.all([store.tokens.provisionAdmin('first-secret'), store.tokens.provisionAdmin('first-secret')]);
    expect((await store.tokens.identify('first-secret')).identity).toMatchObject({ who: 'admin', roles: ['admin'] });
    await store.tokens.provisionAdmin('second-secret');
    expect((await store.tokens.identify('first-secret')).identity).toBeNull();
    const { identity } = await store.tokens.identify('second-secret');
    await store.tokens.revoke({ id: identity?.tokenId ?? '', by: 'ada' });
    await store.tokens.provisionAdmin('second-secret');
    expect((await store.tokens.identify('second-secret')).identity).toBeNull();
  });
});

it('a token is lent to a program of a run, where one is needed, and only there', async () => {
  const lent = await store.tokens.lend({ runId: 'f'.repeat(32) });
  expect((await store.tokens.identify(lent?.token)).identity).toMatchObject({ who: `run ${'f'.repeat(32)}`, roles: ['editor'] });
  await store.tokens.revoke({ id: lent?.id ?? '', by: 'the run' });
  expect((await store.tokens.identify(lent?.token)).identity).toBeNull();
  expect(await (await freshStore()).tokens.lend({ runId: 'f'.repeat(32) })).toBeNull();
});

describe('a book of tokens', () => {
  it('knows bearer and basic credentials, learns of a new token at once and of a revoked one within its time', async () => {
    const book = createTokenBook({ tokens: store.tokens, loopback: true, everyMs: 50 });
    onTestFinished(() => book.stop());
    await book.start();
    expect(book.isOpen()).toBe(false);
    const { token, record } = await store.tokens.create({ who: 'di', roles: ['editor'], expiresAt: null, by: 'ada' });
    await expect.poll(() => book.findFresh(bearer(token))).toMatchObject({ who: 'di' });
    for (const header of [bearer(token), `bearer  ${token}`, basic('di', token), basic(token, '')]) expect(book.find(header)).toMatchObject({ who: 'di' });
    for (const header of [undefined, '', token, 'Bearer', bearer(`${token}x`), basic(token, 'wrong'), 'Basic ****']) expect(book.find(header)).toBeNull();
    await store.tokens.revoke({ id: record.id, by: 'ada' });
    await expect.poll(() => book.find(bearer(token)), { timeout: 20_000 }).toBeNull();
  });

  it('keeps what it knows for a start without the store, hashed and readable by its owner only', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-book-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const keepAt = join(folder, 'serving', 'tokens.json');
    const { token } = await store.tokens.create({ who: 'ed', roles: ['viewer'], expiresAt: null, by: 'ada' });
    const first = createTokenBook({ tokens: store.tokens, loopback: true, keepAt });
    await first.start();
    first.stop();
    expect(await readFile(keepAt, 'utf8')).not.toContain(token);
    const gone = { live: () => Promise.reject(new Error('away')), provisionAdmin: () => Promise.reject(new Error('away')) };
    const second = createTokenBook({ tokens: gone, loopback: true, keepAt });
    await second.start();
    onTestFinished(() => second.stop());
    expect(second.isOpen()).toBe(false);
    expect(second.find(bearer(token))).toMatchObject({ who: 'ed' });
    // nothing is known, and others can ask: nobody is let in but by the variable's token
    const third = createTokenBook({ tokens: gone, loopback: false, adminToken: 'a-long-secret' });
    await third.start();
    onTestFinished(() => third.stop());
    expect([third.isOpen(), third.find(bearer(token)), third.find(bearer('a-long-secret'))?.who]).toEqual([false, null, 'admin']);
  });
});

describe('a voucher', () => {
  const ada = { who: 'ada', roles: ['operator'] as const, projects: ['late*'] };
  const issue = () => store.tokens.issueVoucher({ identity: ada, action: 'rollback', workflowId: 'endpoint/late', name: 'late' });
  const spend = (voucher: string | undefined, more: object = {}) =>
    store.tokens.spendVoucher({
      voucher,
      action: 'rollback',
      workflowId: 'endpoint/late',
      name: 'late',
      spentBy: 'run/update-1',
      by: 'eve',
      request: { to: 1 },
      ...more,
    });

  it('is good once, also when the activity that looks at it is repeated, and says in whose name it is done', async () => {
    const voucher = await issue();
    expect(await spend(voucher)).toEqual({ who: 'ada', roles: ['operator'] });
    expect(await spend(voucher)).toEqual({ who: 'ada', roles: ['operator'] });
    await expect(spend(voucher, { spentBy: 'run/update-2' })).rejects.toMatchObject({
      code: 'VOUCHER_REFUSED',
      message: expect.stringContaining('used') as string,
    });
    const entries = await store.audit.list({ action: 'update.rollback', subject: 'endpoints/late' });
    expect(entries).toMatchObject([{ who: 'ada', details: { request: { to: 1 }, message: 'run/update-1' } }]);
    expect(JSON.stringify(entries)).not.toContain(voucher);
  });

  it('is good for its own message only', async () => {
    const voucher = await issue();
    await expect(spend(voucher, { action: 'promote', spentBy: 'a' })).rejects.toMatchObject({ code: 'VOUCHER_REFUSED' });
    await expect(spend(voucher, { workflowId: 'endpoint/other', spentBy: 'a' })).rejects.toMatchObject({ code: 'VOUCHER_REFUSED' });
    const [body = '', signature = ''] = voucher.split('.');
    const forged = Buffer.from(Buffer.from(body, 'base64url').toString().replace('operator', 'admin')).toString('base64url');
    for (const bad of [`${forged}.${signature}`, body, `${body}.`, '.', 'x'.repeat(4_000)])
      await expect(spend(bad, { spentBy: 'a' })).rejects.toMatchObject({ code: 'VOUCHER_REFUSED' });
    expect(await spend(voucher, { spentBy: 'a' })).toMatchObject({ who: 'ada' });
  });

  it('is needed, and is not given to who may not', async () => {
    await expect(spend(undefined, { spentBy: 'b' })).rejects.toMatchObject({ code: 'TOKEN_NEEDED' });
    const refusedTo = (identity: Parameters<Store['tokens']['issueVoucher']>[0]['identity']) =>
      expect(store.tokens.issueVoucher({ identity, action: 'rollback', workflowId: 'endpoint/late', name: 'late' })).rejects.toMatchObject({
        code: 'NOT_ALLOWED',
      });
    await refusedTo({ ...ada, roles: ['editor', 'approver', 'viewer'] });
    await refusedTo({ ...ada, projects: ['on-time', 'lat'] });
  });
});

it('where no token was ever made a message is believed, and still stands in the log', async () => {
  const open = await freshStore();
  const message = { voucher: undefined, action: 'pauseRetraining', workflowId: 'retraining/p', name: 'p', spentBy: 'x/1', by: 'bo', request: {} } as const;
  expect(await open.tokens.spendVoucher(message)).toEqual({ who: 'bo', roles: ['admin'] });
  await open.tokens.spendVoucher(message);
  expect(await open.audit.list({})).toMatchObject([{ action: 'update.pauseRetraining', who: 'bo', subject: 'retrainings/p' }]);
});
