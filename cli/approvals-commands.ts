import { MillraceError } from '../contracts/errors.ts';
import { endpointWorkflowId } from '../contracts/queues.ts';
import type { EndpointState } from '../contracts/endpoint.ts';
import type { ApprovalRecord } from '../store/approvals.ts';
import type { CommentSubject } from '../store/comments.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, addGroup, type Invocation, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseInstant } from './duration.ts';
import { findRun } from './find-run.ts';
import { renderFields, renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}

const evidenceText = (evidence: unknown): string => JSON.stringify(evidence, null, 2);

function renderGate(gate: ApprovalRecord): string {
  const decisions = gate.decisions.map((d) => [
    d.at,
    d.onBehalfOf === null ? d.who : `${d.who} for ${d.onBehalfOf}`,
    d.decision,
    d.reason,
    d.voidedAt === null ? '' : `void: ${d.voidReason ?? ''}`,
  ]);
  return [
    renderFields([
      ['gate', gate.gate],
      ['run', gate.runId],
      ['status', gate.status],
      ['asked at', gate.requestedAt],
      ['until', gate.expiresAt],
      ['needed', `${String(gate.approversNeeded)} of ${gate.roles.join(' or ')}${gate.notAuthor ? ', not the author' : ''}`],
      ['author', gate.author],
      ['since then', gate.evidenceChanges.map(({ at, what }) => `${at} ${what}`).join('; ') || null],
    ]),
    decisions.length === 0 ? '\nNobody has decided yet.\n' : `\n${renderTable(['at', 'who', 'decision', 'reason', ''], decisions)}`,
    `\nEvidence:\n${evidenceText(gate.evidence)}\n`,
  ].join('');
}

/** The endpoint at which the run's rollout is watched after its end, and the rollout. */
async function watchedRollout(clients: Clients, runId: string): Promise<string> {
  const store = await clients.store();
  const client = await clients.temporal();
  for (const { endpoint, id } of await store.rollouts.list({ runId, status: ['completed'] })) {
    const state = await client.workflow
      .getHandle(endpointWorkflowId(endpoint))
      .query<EndpointState>('state')
      .catch(() => null);
    if (state?.soak?.rollout === id) return endpoint;
  }
  throw new MillraceError('CONFLICT', `Nothing that run ${runId} brought into service is watched any more: its approval cannot be revoked.`, {
    fix: 'Go back to the version before: millrace endpoints rollback ENDPOINT --reason TEXT.',
  });
}

/** `millrace approvals …` and `millrace revoke`: gates, who decided there, and who may. */
export function addApprovalsCommands(program: Program): void {
  const approvals = addGroup(program, 'approvals', 'gates: what waits for people, who decided, who may');

  addCommand(program, approvals, 'list', 'the gates that wait for people, the last asked for first')
    .option('--all', 'those that are closed, too')
    .option('--limit <count>', 'at most so many', '50')
    .action(async (options: Common & { all?: boolean; limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const found = await store.approvals.list({
          limit,
          projects: await clients.projects(),
          ...(options.all === true ? {} : { status: 'pending' as const }),
        });
        print(invocation, found, () =>
          found.length === 0
            ? 'Nothing waits for an approval.\n'
            : renderTable(
                ['run', 'gate', 'status', 'approvals', 'asked at', 'until', 'model'],
                found.map((g) => [
                  g.runId,
                  g.gate,
                  g.status,
                  `${String(g.decisions.filter((d) => d.voidedAt === null && d.decision === 'approve').length)} of ${String(g.approversNeeded)}`,
                  g.requestedAt,
                  g.expiresAt ?? '',
                  g.model ?? '',
                ]),
              ),
        );
      });
    });

  addCommand(program, approvals, 'show <run> <gate>', 'one gate: the evidence, who may decide, who decided, which votes are void').action(
    async (text: string, gate: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const found = await store.approvals.get((await findRun(store, text)).id, gate);
        print(invocation, found, () => renderGate(found));
      });
    },
  );

  addCommand(program, approvals, 'delegate <borrower>', 'lend your right to decide')
    .requiredOption('--until <time>', 'until then')
    .requiredOption('--reason <text>', 'why; it stands in the record')
    .action(async (borrower: string, options: Common & { until: string; reason: string }) => {
      const until = parseInstant('--until', options.until).toISOString();
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { who: lender } = await clients.actor(undefined);
        const made = await (await clients.store()).approvals.delegate({ lender, borrower, until, reason: options.reason });
        print(invocation, made, () => `Delegation ${String(made.id)}: ${borrower} may decide for ${lender} until ${made.until}.\n`);
      });
    });

  addCommand(program, approvals, 'undelegate <delegation>', 'end a delegation of yours before its time').action(async (text: string, options: Common) => {
    const id = parseCount('The number', text);
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const { who: by } = await clients.actor(undefined);
      const ended = await (await clients.store()).approvals.endDelegation({ id, by });
      print(invocation, ended, () => `Delegation ${String(id)} has ended.\n`);
    });
  });

  addCommand(program, approvals, 'delegations', 'the delegations in force').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const found = await (await clients.store()).approvals.delegations();
      print(invocation, found, () =>
        found.length === 0
          ? 'Nobody has lent a right to decide.\n'
          : renderTable(
              ['delegation', 'of', 'to', 'until', 'why'],
              found.map((d) => [String(d.id), d.lender, d.borrower, d.until, d.reason]),
            ),
      );
    });
  });

  addCommand(
    program,
    program.root,
    'revoke <run> <gate>',
    'take a decision back: your own while the gate waits; an approval while what it let through is watched',
  )
    .requiredOption('--reason <text>', 'why; it stands in the record')
    .option('--by <name>', 'who decides (default: the user of this machine)')
    .action(async (text: string, gate: string, options: Common & { reason: string; by?: string }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const run = await findRun(store, text);
        const { who, roles, voucher } = await clients.actor(run.pipeline, options.by);
        const decision = { runId: run.id, gate, who, reason: options.reason, ...(roles === undefined ? {} : { roles }) };
        if ((await store.approvals.get(run.id, gate)).status !== 'approved') {
          const after = await store.approvals.revoke(decision);
          print(invocation, after, () => `${who} has taken the decision at ${gate} back.\n`);
          return;
        }
        const endpoint = await watchedRollout(clients, run.id);
        const workflowId = endpointWorkflowId(endpoint);
        const message = { by: who, reason: options.reason, revokes: { runId: run.id, gate }, ...(await voucher('revoke', workflowId, endpoint)) };
        await (await clients.temporal()).workflow.getHandle(workflowId).executeUpdate<unknown, [object]>('rollback', { args: [message] });
        const after = await store.approvals.get(run.id, gate);
        print(
          invocation,
          after,
          () => `The approval ${gate} is revoked; ${endpoint} serves what it served before.\nLook: millrace endpoints show ${endpoint}\n`,
        );
      });
    });

  const runs = program.root.commands.find((command) => command.name() === 'runs') ?? program.root;
  addCommand(program, runs, 'comment <run> [text]', 'say something of a run; without a text, what was said').action(
    async (text: string, comment: string | undefined, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const run = await findRun(await clients.store(), text);
        await tellComments(clients, { run: run.id }, run.pipeline, comment, invocation);
      });
    },
  );
  const models = program.root.commands.find((command) => command.name() === 'models') ?? program.root;
  addCommand(program, models, 'comment <model> [text]', 'say something of a version (MODEL, MODEL@3, MODEL@ALIAS); without a text, what was said').action(
    async (text: string, comment: string | undefined, options: Common) => {
      const invocation = invocationOf(program, options);
      const [, model = text, name] = /^(.*)@([^@]*)$/.exec(text) ?? [];
      await withClients(async (clients) => {
        const { version } = await (await clients.store()).models.versionNamed(model, name);
        await tellComments(clients, { model, version }, model, comment, invocation);
      });
    },
  );
}

async function tellComments(clients: Clients, of: CommentSubject, name: string, text: string | undefined, invocation: Invocation): Promise<void> {
  const { comments } = await clients.store();
  if (text !== undefined) {
    const made = await comments.add({ of, who: (await clients.actor(name)).who, text });
    print(invocation, made, () => `Noted.\n`);
    return;
  }
  const found = await comments.list({ of });
  print(invocation, found, () =>
    found.length === 0
      ? 'Nothing was said yet.\n'
      : renderTable(
          ['at', 'who', 'what'],
          found.map((c) => [c.at, c.who, c.text]),
        ),
  );
}
