/** The commands of docs/governance.md, as the page shows them, in its order. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import type { AuditEntry } from '../../contracts/audit.ts';
import type { Dossier } from '../../contracts/dossier.ts';
import { auditHash } from '../../store/audit.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

const PAGE = readFileSync(join(packageRoot, 'docs/governance.md'), 'utf8');

let store: CommandFolder['store'];
let folder: string;
let runId: string;
beforeAll(async () => {
  ({ store, folder } = await commandFolder());
  vi.stubEnv('MILLRACE_TOKEN', '');
  runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: 'w', temporalRunId: 't', pipeline: 'governed', params: {}, trigger: { kind: 'cli', by: 'linus' } });
  const { token } = await store.stages.begin({ runId, name: 'register', kind: 'register', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  await store.models.register({
    model: 'governed',
    predictor: 'a'.repeat(64),
    metrics: { auc: 0.7 },
    evaluation: null,
    by: { runId, stage: 'register', token },
  });
  await store.approvals.request({
    runId,
    gate: 'production',
    evidence: { metrics: { auc: 0.7 } },
    expiresAt: null,
    approversNeeded: 2,
    notAuthor: true,
    model: 'governed',
  });
});

/** The page's `millrace` lines of one command, with its run and tokens in place of the page's. */
const linesOf = (command: string): readonly (readonly string[])[] =>
  [...PAGE.matchAll(/^```sh\n([\s\S]*?)^```$/gm)]
    .flatMap(([, code = '']) => code.split('\n'))
    .filter((line) => line.startsWith(`millrace ${command}`))
    .map((line) => [...line.matchAll(/'([^']*)'|(\S+)/g)].slice(1).map(([, quoted, word]) => (quoted ?? word ?? '').replace('4f2a9c', runId)));
/** Does what the page says, in order. */
async function type(command: string, swap: (word: string) => string = (word) => word): Promise<string> {
  const lines = linesOf(command);
  expect(lines.length, command).toBeGreaterThan(0);
  let text = '';
  for (const words of lines) {
    const { code, out, err } = await millrace(...words.map(swap));
    expect([words.join(' '), code, err]).toEqual([words.join(' '), 0, '']);
    text += out;
  }
  return text;
}

describe('the page on governance', () => {
  it('makes a first token, and with it the others', async () => {
    expect(linesOf('tokens create')).toHaveLength(3);
    const [first = [], ...others] = linesOf('tokens create');
    const { out } = await millrace(...first);
    const token = /^mlr_\S+/.exec(out)?.[0] ?? '';
    expect(out).toMatch(/This is the token [0-9a-f]{8} of ada/);
    expect(await millrace('tokens', 'list')).toMatchObject({ code: 2, err: expect.stringContaining('TOKEN_NEEDED') as string });
    vi.stubEnv('MILLRACE_TOKEN', token);
    for (const words of others) expect((await millrace(...words)).code).toBe(0);
    const shown = await type('tokens list');
    expect(shown).toMatch(/grace\s+approver, operator\s+\*/);
    expect(shown).toMatch(/notebook\s+editor\s+flight-\*, flights/);
    const made = await store.tokens.list();
    const notebook = made.find(({ who }) => who === 'notebook');
    await type('tokens revoke', (word) => (/^[0-9a-f]{8}$/.test(word) ? (notebook?.id ?? '') : word));
    expect((await store.tokens.list()).map(({ who }) => who).sort()).toEqual(['ada', 'grace']);
  });

  it('looks at a gate, takes a decision back, lends the right, and comments', async () => {
    await store.approvals.decide({ runId, gate: 'production', who: 'ada', roles: ['admin'], decision: 'approve', reason: 'fine' });
    expect(await type('approvals list')).toMatch(/production\s+pending\s+1 of 2/);
    expect(await type('approvals show')).toMatch(/2 of approver, not the author[\s\S]*linus[\s\S]*"auc": 0.7/);
    await type('revoke');
    expect((await store.approvals.get(runId, 'production')).decisions).toMatchObject([{ who: 'ada', voidReason: 'taken back by ada: the labels were late' }]);
    await type('approvals delegate grace', (word) => word.replace('2026-', '2999-'));
    expect(await type('approvals delegations')).toMatch(/ada\s+grace\s+2999-12-01T08:00:00.000Z\s+on leave/);
    await type('approvals undelegate', (word) => (word === '3' ? '1' : word));
    await type('runs comment');
    await type('models comment');
    expect((await millrace('models', 'comment', 'governed@1')).out).toContain('reviewed with the airport');
    expect((await millrace('approve', runId, '--reason', 'x')).err).not.toContain('USAGE');
  });

  it('lists the log, verifies it, and keeps its head', async () => {
    expect(await type('audit list')).toMatch(/version\.register[\s\S]*token\.create/);
    expect(await type('audit verify')).toMatch(/^The log is whole: \d+ entries/);
    expect(existsSync(join(folder, 'state', 'audit', 'heads.jsonl'))).toBe(true);
    const { head } = JSON.parse((await millrace('audit', 'verify', '--json')).out) as { readonly head: { readonly seq: number; readonly hash: string } };
    expect((await millrace('audit', 'verify', '--head', `${String(head.seq)}:${head.hash}`)).code).toBe(0);
    const broken = await millrace('audit', 'verify', '--head', `${String(head.seq + 5)}:${head.hash}`);
    expect(broken).toMatchObject({ code: 1, out: expect.stringContaining('missing at the end') as string });
    expect((await millrace('audit', 'verify', '--head', 'x')).code).toBe(2);
  });

  it('exports what a regulator asks for, with a proof that needs no Millrace', async () => {
    const out = join(folder, 'governed-dossier');
    await type('audit export', (word) => (word === 'governed-dossier' ? out : word));
    const dossier = JSON.parse(await readFile(join(out, 'dossier.json'), 'utf8')) as Dossier;
    expect(dossier).toMatchObject({
      model: 'governed',
      version: 1,
      run: { pipeline: 'governed', stages: [{ name: 'register' }] },
      approvals: [{ gate: 'production', decisions: [{ who: 'ada' }] }],
      comments: [{ text: 'reviewed with the airport' }, { text: 'the third slice is small' }],
      aliases: [{ alias: 'candidate' }],
      proof: { whole: true },
    });
    const { entries, chain, head } = dossier.proof;
    expect(entries.map(({ action }: AuditEntry) => action)).toEqual(
      expect.arrayContaining(['version.register', 'alias.move', 'gate.approve', 'gate.revoke', 'comment.add']),
    );
    for (const entry of entries) expect(chain[entry.seq - 1]).toEqual([entry.seq, auditHash(entry)]);
    expect(chain.at(-1)).toEqual([head.seq, head.hash]);
    const page = await readFile(join(out, 'dossier.html'), 'utf8');
    expect(page).toContain('taken back by ada: the labels were late');
    expect(page).not.toContain('<script');
    expect((await millrace('audit', 'export', 'governed@1', '--out', out)).code).toBe(1);
  });
});
