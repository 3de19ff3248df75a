import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actAs } from '../../store/acting.ts';
import { auditAnchorFile, keepAuditAnchor, readAuditAnchors } from '../../store/audit-anchors.ts';
import { auditHash } from '../../store/audit.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store & { readonly databaseUrl: string };
/** Someone with the database's own rights, who can switch the trigger off. */
let intruder: pg.Client;
beforeAll(async () => {
  store = await freshStore({ poolSize: 8 });
  intruder = new pg.Client({ connectionString: store.databaseUrl });
  await intruder.connect();
});
afterAll(() => intruder.end());

const champion = { model: 'm', version: 1, predictor: 'a'.repeat(64) };
const note = (subject: string): Promise<void> =>
  store.audit.write({ action: 'test.note', subject, who: 'ada', details: { x: 1e-7, text: 'ä\u0000\ud800', none: undefined } });

describe('the audit log', () => {
  it('numbers entries without a gap, each with the hash of the one before, also when many are written at once', async () => {
    await Promise.all(Array.from({ length: 40 }, (_, i) => note(`notes/${String(i)}`)));
    const entries = (await store.audit.list({ limit: 1_000 })).toReversed();
    expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, i) => i + 1));
    for (const [i, entry] of entries.entries()) {
      expect(entry.prevHash).toBe(entries[i - 1]?.hash ?? '0'.repeat(64));
      expect(entry.hash).toBe(auditHash(entry));
    }
    expect(await store.audit.verify()).toMatchObject({ ok: true, entries: entries.length, problems: [] });
  });

  it('has an entry for what changes the store, with who did it, and none when nothing changed', async () => {
    await actAs('ada', async () => {
      await store.models.register({ model: 'm', predictor: 'a'.repeat(64), metrics: {}, evaluation: null });
      await store.models.moveAlias({ model: 'm', alias: 'champion', version: 1 });
      await store.models.moveAlias({ model: 'm', alias: 'champion', version: 1 });
    });
    const change = {
      route: { endpoint: 'late', epoch: 1, champion, challenger: null, log: true },
      expectedEpoch: 0,
      rolloutId: null,
      reason: 'first',
      by: 'bo',
    };
    await store.endpoints.setRoute(change);
    await store.endpoints.setRoute(change);
    const silence = await store.alerts.silence({ endpoint: 'late', until: '2999-01-01T00:00:00.000Z', by: 'cy', reason: 'a move' });
    await store.alerts.endSilence({ id: silence.id, by: 'cy' });
    await store.alerts.endSilence({ id: silence.id, by: 'cy' });
    const written = (await store.audit.list({ limit: 6 })).toReversed().map(({ action, who, subject }) => [action, who, subject]);
    expect(written).toEqual([
      ['alias.move', 'ada', 'models/m/aliases/candidate'],
      ['version.register', 'ada', 'models/m/versions/1'],
      ['alias.move', 'ada', 'models/m/aliases/champion'],
      ['route.change', 'bo', 'endpoints/late'],
      ['silence.begin', 'cy', `silences/${String(silence.id)}`],
      ['silence.end', 'cy', `silences/${String(silence.id)}`],
    ]);
    expect((await store.audit.list({ subject: 'models/m' })).map(({ seq }) => seq)).toHaveLength(3);
    expect(await store.audit.list({ subject: 'models/m/version' })).toEqual([]);
  });

  it('leaves no entry of a change that was refused', async () => {
    const { seq } = await store.audit.head();
    await expect(
      store.endpoints.setRoute({ route: { endpoint: 'late', epoch: 9, champion, challenger: null, log: true }, expectedEpoch: 8, rolloutId: null }),
    ).rejects.toMatchObject({ code: 'FENCED' });
    expect((await store.audit.head()).seq).toBe(seq);
  });

  it('refuses to be changed and to be deleted', async () => {
    for (const statement of [`update audit_log set who = 'eve' where seq = 1`, 'delete from audit_log where seq = 1', 'truncate audit_log'])
      await expect(intruder.query(statement)).rejects.toThrow(/append-only/);
  });
});

describe('a log that was tampered with', () => {
  /** Does it as a superuser would, looks, and puts everything back. */
  const tampered = async (statements: string, anchors: Parameters<Store['audit']['verify']>[0] = []) => {
    await intruder.query('create table kept as table audit_log');
    await intruder.query('alter table audit_log disable trigger user');
    await intruder.query(statements);
    try {
      return await store.audit.verify(anchors);
    } finally {
      await intruder.query('truncate audit_log; insert into audit_log select * from kept; drop table kept; alter table audit_log enable trigger user');
    }
  };

  it('is seen to have a changed entry, by its own hash', async () => {
    expect(await tampered(`update audit_log set details = '{"x": 2}' where seq = 5`)).toMatchObject({
      ok: false,
      problems: [{ seq: 5, what: expect.stringContaining('changed') as string }],
    });
    expect(await tampered(`update audit_log set who = 'eve' where seq = 5`)).toMatchObject({ ok: false, problems: [{ seq: 5 }] });
  });

  it('is seen to lack entries in the middle and at the beginning', async () => {
    expect(await tampered('delete from audit_log where seq in (7, 8)')).toMatchObject({
      ok: false,
      problems: [{ seq: 7, what: 'entries 7 to 8 are missing' }],
    });
    expect(await tampered('delete from audit_log where seq = 1')).toMatchObject({ ok: false, problems: [{ seq: 1, what: 'entry 1 is missing' }] });
  });

  it('is seen to lack entries at the end, and to be written anew, by a head that was kept elsewhere', async () => {
    const head = await store.audit.head();
    await note('later');
    expect(await tampered('delete from audit_log where seq >= 10')).toMatchObject({ ok: true });
    expect(await tampered('delete from audit_log where seq >= 10', [head])).toMatchObject({
      ok: false,
      problems: [{ seq: 10, what: expect.stringContaining('at the end') as string }],
    });
    // every hash from the changed entry on made anew: without an anchor nothing can tell
    const entries = (await store.audit.list({ limit: 1_000 })).toReversed();
    let prevHash = entries[19]?.hash ?? '';
    const statements = entries.slice(20).map((entry) => {
      const forged = { ...entry, who: 'eve', prevHash };
      const before = prevHash;
      prevHash = auditHash(forged);
      return `update audit_log set who = 'eve', prev_hash = '${before}', hash = '${prevHash}' where seq = ${String(entry.seq)};`;
    });
    expect(await tampered(statements.join('\n'))).toMatchObject({ ok: true });
    expect(await tampered(statements.join('\n'), [head])).toMatchObject({
      ok: false,
      problems: [{ seq: head.seq, what: expect.stringContaining('written anew') as string }],
    });
  });

  it('cannot be covered up by two heads of one number', async () => {
    const head = await store.audit.head();
    expect(await store.audit.verify([head, { ...head, hash: 'f'.repeat(64) }])).toMatchObject({ ok: false });
  });
});

it('the heads that are kept are added to a file, each once', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-audit-'));
  try {
    const file = auditAnchorFile(folder);
    const heads = [1, 1, 2].map((seq) => ({ seq, hash: randomBytes(32).toString('hex') }));
    for (const head of heads) await keepAuditAnchor(file, head);
    for (const head of heads.slice(2)) await keepAuditAnchor(file, head);
    await keepAuditAnchor(file, { seq: 0, hash: '0'.repeat(64) });
    expect(await readAuditAnchors(file)).toMatchObject(heads);
  } finally {
    await rm(folder, { recursive: true });
  }
});

it('a proof holds what was written of the subjects, and the hashes that tie it to the head', async () => {
  const { entries, chain, verdict } = await store.audit.proof(['models/m', 'nothing']);
  expect(entries.map(({ subject }) => subject)).toEqual(['models/m/aliases/candidate', 'models/m/versions/1', 'models/m/aliases/champion']);
  expect(chain.at(-1)).toEqual([verdict.head.seq, verdict.head.hash]);
  for (const entry of entries) {
    expect(chain[entry.seq - 1]).toEqual([entry.seq, auditHash(entry)]);
    expect(chain[entry.seq - 2]?.[1]).toBe(entry.prevHash);
  }
});
