import { MillraceError } from '../contracts/errors.ts';
import { ROLES, type Role } from '../contracts/identity.ts';
import type { ShownToken } from '../store/tokens.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, collect, invocationOf, print, type Program } from './command.ts';
import { parseDurationMs } from './duration.ts';
import { nearestName } from './parameters.ts';
import { renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}
interface CreateOptions extends Common {
  readonly role?: readonly string[];
  readonly project?: readonly string[];
  readonly expires: string;
}

function parseRole(text: string): Role {
  const role = ROLES.find((known) => known === text);
  if (role === undefined) {
    const near = nearestName(text, ROLES);
    throw new MillraceError('USAGE', `--role: there is no role ${text}.${near === undefined ? '' : ` Is ${near} meant?`}`, {
      fix: `Use one of ${ROLES.join(', ')}.`,
    });
  }
  return role;
}

/** UTC ISO; null for a token that does not expire. */
function parseExpiry(text: string): string | null {
  return text === 'never' ? null : new Date(Date.now() + parseDurationMs('--expires', text)).toISOString();
}

function stateOf({ revokedAt, revokedBy, expiresAt }: ShownToken, now: Date): string {
  if (revokedAt !== null) return `revoked by ${revokedBy ?? ''}`;
  if (expiresAt === null) return 'does not expire';
  return Date.parse(expiresAt) <= now.getTime() ? `expired ${expiresAt}` : `until ${expiresAt}`;
}

/** `millrace tokens …`: who may do what. */
export function addTokensCommands(program: Program): void {
  const tokens = addGroup(program, 'tokens', 'who may do what; the first token makes tokens needed everywhere');

  addCommand(program, tokens, 'create <who>', 'make a token for a person or a program; it is shown once')
    .option('--role <role>', `${ROLES.join(', ')}; may be given again (default: viewer)`, collect)
    .option('--project <names>', 'only pipelines, models, endpoints and experiments of these names, where * stands for any text; may be given again', collect)
    .option('--expires <duration>', 'after so long it is good no more; `never` for never', '90 days')
    .action(async (who: string, options: CreateOptions) => {
      const roles = (options.role ?? ['viewer']).map(parseRole);
      const expiresAt = parseExpiry(options.expires);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { who: by } = await clients.actor(undefined);
        const input = { who, roles, expiresAt, by, ...(options.project === undefined ? {} : { projects: options.project }) };
        const { token, record } = await (await clients.store()).tokens.create(input);
        print(
          invocation,
          { token, ...record },
          () => `${token}\nThis is the token ${record.id} of ${record.who}. It is not shown again. Use it as MILLRACE_TOKEN, or as Authorization: Bearer.\n`,
        );
      });
    });

  addCommand(program, tokens, 'list', 'the tokens, without their text')
    .option('--all', 'those that have expired or were revoked, too')
    .action(async (options: Common & { all?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const found = await (await clients.store()).tokens.list({ all: options.all === true });
        const now = new Date();
        print(invocation, found, () =>
          found.length === 0
            ? 'There are no tokens: who reaches the servers may do everything.\n'
            : renderTable(
                ['token', 'who', 'roles', 'projects', 'good', 'made at', 'by'],
                found.map((t) => [t.id, t.who, t.roles.join(', '), t.projects.join(', '), stateOf(t, now), t.createdAt, t.createdBy]),
              ),
        );
      });
    });

  addCommand(program, tokens, 'revoke <token>', 'take a token back, by its number').action(async (id: string, options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const { who: by } = await clients.actor(undefined);
      const record = await (await clients.store()).tokens.revoke({ id, by });
      print(invocation, record, () => `The token ${id} of ${record.who} is good no more; servers refuse it within seconds.\n`);
    });
  });
}
