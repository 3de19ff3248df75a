import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import { ACTION_ROLES, type VoucherAction, ROLES } from '../contracts/identity.ts';
import { NameSchema, RunIdSchema } from '../contracts/ids.ts';
import { PersonSchema } from '../contracts/labels.ts';
import { endpointWorkflowId } from '../contracts/queues.ts';
import type { Store } from '../store/store.ts';
import { action, afterNumber, limit, page, type Resource, resource } from './resource.ts';

const gate = z.string().min(1).max(100);
const reason = z.string().min(1).max(2_000);
const version = z.coerce.number().int().min(1).max(2_147_483_647);
const DecisionBody = z.strictObject({ decision: z.enum(['approve', 'reject']), by: PersonSchema, reason });
const ReasonBody = z.strictObject({ by: PersonSchema, reason });
const CommentBody = z.strictObject({ by: PersonSchema, text: z.string().min(1).max(10_000) });
const TokenBody = z.strictObject({
  who: PersonSchema,
  roles: z.array(z.enum(ROLES)).min(1),
  projects: z.array(z.string().min(1).max(200)).min(1).max(100).optional().describe('Patterns of names, where * stands for any text. Default: every name.'),
  expiresAt: z.iso.datetime().nullable().describe('Null: it does not expire.'),
  by: PersonSchema,
});
const VoucherBody = z.strictObject({
  action: z.enum(Object.keys(ACTION_ROLES) as [VoucherAction, ...VoucherAction[]]),
  workflowId: z.string().min(1).max(1_000),
});
const DelegationBody = z.strictObject({ by: PersonSchema, to: PersonSchema, until: z.iso.datetime(), reason });

/** The pipeline or endpoint that a workflow is of. */
async function nameOfWorkflow(store: Store, workflowId: string): Promise<string> {
  const named = /^(?:endpoint|retraining)\/(.+)$/.exec(workflowId)?.[1];
  const name = named ?? (await store.runs.findByWorkflow(workflowId))?.pipeline;
  if (name === undefined) throw new MillraceError('NOT_FOUND', `There is no run of the workflow ${workflowId}.`);
  return name;
}

/** The workflow of a run. */
async function workflowOf(store: Store, run: string): Promise<{ readonly workflowId: string; readonly pipeline: string }> {
  const { workflowId, pipeline } = await store.runs.get(run);
  if (workflowId === null) throw new MillraceError('CONFLICT', `Run ${run} has no workflow: it was logged from outside.`);
  return { workflowId, pipeline };
}

/** Who may do what, who decided, and the log of it. */
export const GOVERNANCE_RESOURCES: readonly Resource[] = [
  action('/runs/{run}/gates/{gate}/decisions', DecisionBody, {
    summary: 'Decides at a gate, in the name of the token. The same decision again changes nothing.',
    role: 'viewer',
    params: { run: RunIdSchema, gate },
    read: async (store, { run, gate: name, body: { decision, by, reason: why } }, _artifacts, { identity, update }) => {
      const { workflowId, pipeline } = await workflowOf(store, run);
      const voucher = await store.tokens.issueVoucher({ identity, action: decision, workflowId, name: pipeline });
      await update(workflowId, decision, { gate: name, by, reason: why, voucher });
      return store.approvals.get(run, name);
    },
  }),
  action('/runs/{run}/gates/{gate}/revocation', ReasonBody, {
    summary: 'Takes a decision back: one’s own while the gate waits; an approval while what it let through is watched.',
    role: 'viewer',
    params: { run: RunIdSchema, gate },
    read: async (store, { run, gate: name, body: { by, reason: why } }, _artifacts, { identity, update }) => {
      const roles = identity.tokenId === null ? {} : { roles: identity.roles };
      const [rollout] = await store.rollouts.list({ runId: run, status: ['completed'], limit: 1 });
      if ((await store.approvals.get(run, name)).status !== 'approved' || rollout === undefined)
        return store.approvals.revoke({ runId: run, gate: name, who: by, reason: why, ...roles });
      const workflowId = endpointWorkflowId(rollout.endpoint);
      const voucher = await store.tokens.issueVoucher({ identity, action: 'revoke', workflowId, name: rollout.endpoint });
      await update(workflowId, 'rollback', { by, reason: why, revokes: { runId: run, gate: name }, voucher });
      return store.approvals.get(run, name);
    },
  }),
  resource('/runs/{run}/comments', {
    summary: 'What people said of a run, newest first.',
    answers: 'page',
    params: { run: RunIdSchema },
    query: { limit, after: afterNumber },
    read: async (store, { run, limit: size, after }) =>
      page(await store.comments.list({ of: { run }, limit: size + 1, ...(after === undefined ? {} : { before: after }) }), size, (comment) => comment.id),
  }),
  action('/runs/{run}/comments', CommentBody, {
    summary: 'Says something of a run.',
    params: { run: RunIdSchema },
    read: (store, { run, body: { by, text } }) => store.comments.add({ of: { run }, who: by, text }),
  }),
  resource('/models/{model}/versions/{version}/comments', {
    summary: 'What people said of a version, newest first.',
    answers: 'page',
    params: { model: NameSchema, version },
    query: { limit, after: afterNumber },
    read: async (store, { model, version: number, limit: size, after }) =>
      page(
        await store.comments.list({ of: { model, version: number }, limit: size + 1, ...(after === undefined ? {} : { before: after }) }),
        size,
        (comment) => comment.id,
      ),
  }),
  action('/models/{model}/versions/{version}/comments', CommentBody, {
    summary: 'Says something of a version.',
    params: { model: NameSchema, version },
    read: (store, { model, version: number, body: { by, text } }) => store.comments.add({ of: { model, version: number }, who: by, text }),
  }),
  resource('/delegations', {
    summary: 'Rights to decide that are lent now, newest first.',
    answers: 'page',
    params: {},
    query: {},
    everyProject: true,
    read: async (store) => ({ items: await store.approvals.delegations(), next: null }),
  }),
  action('/delegations', DelegationBody, {
    summary: 'Lends the right to decide, in the name of the token.',
    role: 'approver',
    params: {},
    read: (store, { body: { by, to, until, reason: why } }) => store.approvals.delegate({ lender: by, borrower: to, until, reason: why }),
  }),
  action('/delegations/{delegation}/end', z.strictObject({ by: PersonSchema }), {
    summary: 'Ends a delegation before its time.',
    role: 'approver',
    params: { delegation: version },
    read: (store, { delegation, body: { by } }) => store.approvals.endDelegation({ id: delegation, by }),
  }),
  resource('/tokens', {
    summary: 'Tokens without their text, newest first; those that are good now, or with `all` the others, too.',
    answers: 'page',
    role: 'admin',
    params: {},
    query: { all: z.enum(['true', 'false']).default('false') },
    read: async (store, { all }) => ({ items: await store.tokens.list({ all: all === 'true' }), next: null }),
  }),
  action('/tokens', TokenBody, {
    summary: 'Makes a token; its text is in the answer, and nowhere else.',
    role: 'admin',
    params: {},
    read: async (store, { body: { projects, ...input } }) => {
      const { token, record } = await store.tokens.create({ ...input, ...(projects === undefined ? {} : { projects }) });
      return { token, ...record };
    },
  }),
  action('/tokens/{token}/revoke', z.strictObject({ by: PersonSchema }), {
    summary: 'Takes a token back.',
    role: 'admin',
    params: { token: z.string().regex(/^[0-9a-f]{8}$/) },
    read: (store, { token, body: { by } }) => store.tokens.revoke({ id: token, by }),
  }),
  action('/vouchers', VoucherBody, {
    summary: 'A voucher for one message to one workflow, good for five minutes: what a Temporal update carries as `voucher`.',
    role: 'viewer',
    everyProject: false,
    params: {},
    read: async (store, { body: { action: what, workflowId } }, _artifacts, { identity }) => ({
      voucher: await store.tokens.issueVoucher({ identity, action: what, workflowId, name: await nameOfWorkflow(store, workflowId) }),
    }),
  }),
  resource('/audit', {
    summary: 'The log of decisions and changes, newest first.',
    answers: 'page',
    everyProject: true,
    params: {},
    query: {
      who: z.string().max(200).optional(),
      action: z.string().max(100).optional(),
      subject: z.string().max(1_000).optional().describe('This one, and what is below it.'),
      limit,
      after: afterNumber,
    },
    read: async (store, { limit: size, after, who, action: what, subject }) =>
      page(
        await store.audit.list({
          limit: size + 1,
          ...(who === undefined ? {} : { who }),
          ...(what === undefined ? {} : { action: what }),
          ...(subject === undefined ? {} : { subject }),
          ...(after === undefined ? {} : { before: after }),
        }),
        size,
        (entry) => entry.seq,
      ),
  }),
  resource('/audit/head', {
    summary:
      'The number and hash of the last entry of the log: keep it elsewhere, and `millrace audit verify --head` shows later that nothing before was changed.',
    answers: 'object',
    everyProject: true,
    params: {},
    query: {},
    read: (store) => store.audit.head(),
  }),
];
