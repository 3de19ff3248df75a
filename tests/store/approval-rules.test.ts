import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Role } from '../../contracts/identity.ts';
import type { RequestApprovalInput } from '../../store/approvals.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore();
});

const IN_2999 = '2999-01-01T00:00:00.000Z';
let model: string;
/** A run of ada's that waits at a gate for a version of a model of its own. */
async function waiting(more: Partial<RequestApprovalInput> = {}): Promise<string> {
  const runId = randomBytes(16).toString('hex');
  model = `m-${runId.slice(0, 8)}`;
  await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'release', params: {}, trigger: { kind: 'cli', by: 'ada' } });
  const { token } = await store.stages.begin({ runId, name: 'register', kind: 'register', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  await store.models.register({ model, predictor: 'a'.repeat(64), metrics: {}, evaluation: null, by: { runId, stage: 'register', token } });
  await store.approvals.request({ runId, gate: 'production', evidence: { metrics: { auc: 0.7 } }, expiresAt: null, model, ...more });
  return runId;
}
const decide = (runId: string, who: string, roles?: readonly Role[], decision: 'approve' | 'reject' = 'approve') =>
  store.approvals.decide({ runId, gate: 'production', who, decision, reason: `${who} says so`, ...(roles === undefined ? {} : { roles }) });
const alertOf = async (runId: string) => (await store.alerts.list({ kind: 'approval', limit: 1_000 })).find(({ subject }) => subject.includes(runId));

describe('who decides at a gate', () => {
  it('has one of its roles, where tokens are configured', async () => {
    const runId = await waiting({ roles: ['approver', 'operator'] });
    await expect(decide(runId, 'eve', ['viewer', 'editor'])).rejects.toMatchObject({
      code: 'NOT_ALLOWED',
      message: expect.stringContaining('approver or operator') as string,
    });
    expect(await decide(runId, 'op', ['operator'])).toMatchObject({ status: 'approved' });
    expect(await decide(await waiting({ roles: ['operator'] }), 'root', ['admin'])).toMatchObject({ status: 'approved' });
    expect(await decide(await waiting(), 'anyone')).toMatchObject({ status: 'approved' });
  });

  it('is not the author, where the gate says so', async () => {
    const runId = await waiting({ notAuthor: true });
    for (const roles of [undefined, ['approver'], ['admin']] as const)
      await expect(decide(runId, 'ada', roles)).rejects.toMatchObject({ code: 'NOT_ALLOWED', message: expect.stringContaining('author') as string });
    expect(await decide(runId, 'bo', ['approver'])).toMatchObject({ status: 'approved', author: 'ada' });
    expect(await decide(await waiting(), 'ada', ['approver'])).toMatchObject({ status: 'approved' });
  });

  it('may lend the right, which is then used once, and not for the author', async () => {
    for (const [who, roles] of [
      ['root', ['admin']],
      ['lena', ['approver']],
      ['ada', ['approver']],
    ] as const)
      await store.tokens.create({ who, roles, expiresAt: null, by: 'root' });
    const lent = await store.approvals.delegate({ lender: 'lena', borrower: 'bob', until: IN_2999, reason: 'away' });
    await store.approvals.delegate({ lender: 'ada', borrower: 'cat', until: IN_2999, reason: 'away' });
    await store.approvals.delegate({ lender: 'nobody', borrower: 'dan', until: IN_2999, reason: 'has no role to lend' });
    const runId = await waiting({ approversNeeded: 2, notAuthor: true });
    const after = await decide(runId, 'bob', ['viewer']);
    expect(after.decisions).toMatchObject([{ who: 'bob', onBehalfOf: 'lena' }]);
    await expect(decide(runId, 'cat', ['viewer'])).rejects.toMatchObject({ code: 'NOT_ALLOWED' });
    await expect(decide(runId, 'dan', ['viewer'])).rejects.toMatchObject({ code: 'NOT_ALLOWED' });
    await store.approvals.delegate({ lender: 'lena', borrower: 'eli', until: IN_2999, reason: 'away' });
    await expect(decide(runId, 'eli', ['viewer'])).rejects.toMatchObject({ code: 'NOT_ALLOWED' });
    await expect(store.approvals.endDelegation({ id: lent.id, by: 'bob' })).rejects.toMatchObject({ code: 'NOT_ALLOWED' });
    await store.approvals.endDelegation({ id: lent.id, by: 'lena' });
    await expect(decide(await waiting(), 'bob', ['viewer'])).rejects.toMatchObject({ code: 'NOT_ALLOWED' });
    await expect(store.approvals.delegate({ lender: 'x', borrower: 'x', until: '2001-01-01T00:00:00.000Z', reason: 'r' })).rejects.toMatchObject({
      problems: [{ path: 'until' }, { path: 'borrower' }],
    });
  });
});

describe('evidence that changes while people decide', () => {
  it('a newer version of the model makes earlier votes void, says so, and tells those who may decide anew', async () => {
    const runId = await waiting({ approversNeeded: 2 });
    await decide(runId, 'bo');
    await store.models.register({ model, predictor: 'b'.repeat(64), metrics: {}, evaluation: null });
    const gate = await store.approvals.get(runId, 'production');
    expect(gate).toMatchObject({ status: 'pending', evidenceChanges: [{ what: `version 2 of ${model} was registered` }] });
    expect(gate.decisions).toMatchObject([{ who: 'bo', voidReason: `version 2 of ${model} was registered` }]);
    expect(await alertOf(runId)).toMatchObject({ severity: 'warning', what: expect.stringContaining('The votes of bo are void') as string });
    expect(await decide(runId, 'cy')).toMatchObject({ status: 'pending' });
    const closed = await decide(runId, 'bo');
    expect([closed.status, closed.decisions.map(({ who, voidedAt }) => [who, voidedAt === null])]).toEqual([
      'approved',
      [
        ['bo', false],
        ['cy', true],
        ['bo', true],
      ],
    ]);
    expect((await store.audit.list({ subject: `runs/${runId}` })).map(({ action, who }) => [action, who]).reverse()).toEqual([
      ['gate.request', `run ${runId}`],
      ['gate.approve', 'bo'],
      ['gate.evidence', 'millrace'],
      ['gate.approve', 'cy'],
      ['gate.approve', 'bo'],
    ]);
  });

  it('fresh drift where the model serves does, too, once for as long as it lasts', async () => {
    const runId = await waiting({ approversNeeded: 2 });
    const champion = { model, version: 1, predictor: 'a'.repeat(64) };
    await store.endpoints.setRoute({ route: { endpoint: model, epoch: 1, champion, challenger: null, log: true }, expectedEpoch: 0, rolloutId: null });
    await decide(runId, 'bo');
    const drift = {
      kind: 'drift',
      endpoint: model,
      subject: 'distance',
      what: 'distance drifted',
      since: '2026-01-01T00:00:00.000Z',
      against: null,
      sure: null,
      look: '/x',
      command: 'x',
    } as const;
    await store.alerts.raise(drift);
    expect((await store.approvals.get(runId, 'production')).decisions[0]?.voidReason).toContain('distance drifted');
    await decide(runId, 'bo');
    await store.alerts.raise(drift);
    await store.alerts.raise({ ...drift, endpoint: 'elsewhere' });
    const { decisions, evidenceChanges } = await store.approvals.get(runId, 'production');
    expect([evidenceChanges.length, decisions.filter((d) => d.voidedAt === null).map((d) => d.who)]).toEqual([1, ['bo']]);
  });
});

describe('a decision that is taken back', () => {
  it('does not count while the gate waits, and can be given again', async () => {
    const runId = await waiting({ approversNeeded: 2 });
    await decide(runId, 'bo');
    await store.approvals.revoke({ runId, gate: 'production', who: 'bo', reason: 'too fast' });
    await expect(store.approvals.revoke({ runId, gate: 'production', who: 'bo', reason: 'again' })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await decide(runId, 'cy')).toMatchObject({ status: 'pending' });
    expect(await decide(runId, 'bo')).toMatchObject({ status: 'approved' });
  });

  it('revokes an approval only together with the rollout of its own run', async () => {
    const runId = await waiting();
    await decide(runId, 'bo');
    const revoke = (rollout?: string) =>
      store.approvals.revoke({
        runId,
        gate: 'production',
        who: 'cy',
        roles: ['approver'],
        reason: 'it is wrong',
        ...(rollout === undefined ? {} : { rollout }),
      });
    await expect(revoke()).rejects.toMatchObject({ code: 'CONFLICT' });
    const [mine, other] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')];
    await store.rollouts.create({ id: mine, endpoint: model, model, version: 1, strategy: {}, by: { runId, stage: 'deploy' } });
    await store.rollouts.create({ id: other, endpoint: model, model, version: 1, strategy: {} });
    await expect(revoke(other)).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(store.approvals.revoke({ runId, gate: 'production', who: 'eve', roles: ['viewer'], reason: 'r', rollout: mine })).rejects.toMatchObject({
      code: 'NOT_ALLOWED',
    });
    expect(await revoke(mine)).toMatchObject({ status: 'revoked', decisions: [{ who: 'bo', voidReason: 'taken back by cy: it is wrong' }] });
    expect(await revoke(mine)).toMatchObject({ status: 'revoked' });
  });
});

it('comments stand in the order in which they were made, and only of what is there', async () => {
  const runId = await waiting();
  await store.comments.add({ of: { run: runId }, who: 'ada', text: 'first' });
  await store.comments.add({ of: { run: runId }, who: 'bo', text: 'second\u0000' });
  await store.comments.add({ of: { model, version: 1 }, who: 'cy', text: 'of the version' });
  expect((await store.comments.list({ of: { run: runId } })).map(({ who, text }) => [who, text])).toEqual([
    ['bo', 'second\uFFFD'],
    ['ada', 'first'],
  ]);
  expect(await store.comments.list({ of: { model, version: 1 } })).toMatchObject([{ text: 'of the version' }]);
  await expect(store.comments.add({ of: { model, version: 2 }, who: 'ada', text: 'x' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
