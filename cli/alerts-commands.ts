import { userInfo } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { ALERT_KINDS, type AlertKind } from '../contracts/alerts.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { MessageRecord, ShownAlert, SilenceRecord } from '../store/alerts.ts';
import { loadCliConfig, withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseDurationMs, parseInstant } from './duration.ts';
import { nearestName } from './parameters.ts';
import { oneLine, renderFields, renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}
interface Matcher {
  readonly kind?: string;
  readonly endpoint?: string;
  readonly pipeline?: string;
  readonly subject?: string;
}
interface SilenceOptions extends Common, Matcher {
  readonly for?: string;
  readonly from?: string;
  readonly until?: string;
  readonly reason: string;
  readonly by?: string;
}

/** How long the answer to a test is waited for beyond the time that one attempt may take. */
const TEST_PATIENCE_MS = 15_000;
const TEST_LOOK_MS = 200;

const stateOf = ({ status, silencedUntil, acknowledgedBy }: ShownAlert): string => {
  if (status === 'acknowledged') return `acknowledged by ${acknowledgedBy ?? ''}`;
  return status === 'open' && silencedUntil !== null ? `silenced until ${silencedUntil}` : status;
};
const placeOf = ({ endpoint, pipeline }: Pick<ShownAlert, 'endpoint' | 'pipeline'>): string => endpoint ?? pipeline ?? '';
const matcherOf = ({ kind, endpoint, pipeline, subject }: SilenceRecord): string =>
  Object.entries({ kind, endpoint, pipeline, subject })
    .flatMap(([name, value]) => (value === null ? [] : [`${name} ${value}`]))
    .join(', ');

function parseKind(text: string): AlertKind {
  const kind = ALERT_KINDS.find((known) => known === text);
  if (kind === undefined) {
    const near = nearestName(text, ALERT_KINDS);
    throw new MillraceError('USAGE', `--kind: there are no alerts of the kind "${text}".${near === undefined ? '' : ` Is ${near} meant?`}`, {
      fix: `Use one of ${ALERT_KINDS.join(', ')}.`,
    });
  }
  return kind;
}
const parseId = (text: string): number => parseCount('The number', text);

function renderMessages(messages: readonly MessageRecord[]): string {
  if (messages.length === 0) return '\nNobody was told of it.\n';
  return `\n${renderTable(
    ['told at', 'channel', 'attempts', 'taken at', 'last error'],
    messages.flatMap(({ createdAt, deliveries }) =>
      deliveries.length === 0
        ? [[createdAt, 'no channel takes it', '', '', '']]
        : deliveries.map((d) => [createdAt, d.channel, String(d.attempts), d.deliveredAt ?? (d.gaveUpAt === null ? '' : 'given up'), d.lastError ?? '']),
    ),
  )}`;
}

/** `millrace alerts …`: what is the matter, and who is told of it. */
export function addAlertsCommands(program: Program): void {
  const alerts = addGroup(program, 'alerts', 'what is the matter, and who is told of it');

  addCommand(program, alerts, 'list', 'what is the matter now, newest first')
    .option('--all', 'what is resolved, too')
    .option('--kind <kind>', ALERT_KINDS.join(', '))
    .option('--endpoint <name>', 'of this endpoint')
    .option('--pipeline <name>', 'of this pipeline')
    .option('--limit <count>', 'at most so many', '50')
    .action(async (options: Common & Matcher & { all?: boolean; limit: string }) => {
      const input = {
        limit: parseCount('--limit', options.limit),
        ...(options.all === true ? { status: 'all' as const } : {}),
        ...(options.kind === undefined ? {} : { kind: parseKind(options.kind) }),
        ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
        ...(options.pipeline === undefined ? {} : { pipeline: options.pipeline }),
      };
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const found = await (await clients.store()).alerts.list({ ...input, projects: await clients.projects() });
        print(invocation, found, () =>
          found.length === 0
            ? 'Nothing is the matter.\n'
            : renderTable(
                ['alert', 'severity', 'kind', 'of', 'what', 'since', 'state'],
                found.map((alert) => [String(alert.id), alert.severity, alert.kind, placeOf(alert), oneLine(alert.what, 100), alert.since, stateOf(alert)]),
              ),
        );
      });
    });

  addCommand(program, alerts, 'show <alert>', 'one alert: what, since when, against what, how sure, who was told, the command to look closer').action(
    async (text: string, options: Common) => {
      const id = parseId(text);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const alert = await (await clients.store()).alerts.get(id);
        print(
          invocation,
          alert,
          () =>
            renderFields([
              ['alert', id],
              ['what', alert.what],
              ['kind', alert.kind],
              ['severity', alert.severity],
              ['endpoint', alert.endpoint],
              ['pipeline', alert.pipeline],
              ['subject', alert.subject],
              ['since', alert.since],
              ['until', alert.until],
              ['against', alert.against],
              ['how sure', alert.sure],
              ['state', stateOf(alert)],
              ['acknowledged at', alert.acknowledgedAt],
              ['comment', alert.comment],
              ['raised last', alert.lastAt],
              ['resolved at', alert.resolvedAt],
              ['closed because', alert.resolvedBecause],
              ['look', alert.look],
              ['closer', alert.command],
            ]) + renderMessages(alert.messages),
        );
      });
    },
  );

  addCommand(program, alerts, 'ack <alert>', 'acknowledge an alert: it is quiet until it has recovered')
    .option('--comment <text>', 'what is being done; stands in the record')
    .option('--by <name>', 'who does (default: the user of this machine)')
    .action(async (text: string, options: Common & { comment?: string; by?: string }) => {
      const id = parseId(text);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { who: by } = await clients.actor(undefined, options.by);
        const alert = await (await clients.store()).alerts.acknowledge({ id, by, ...(options.comment === undefined ? {} : { comment: options.comment }) });
        print(invocation, alert, () => `Acknowledged by ${by}${alert.status === 'acknowledged' ? ': quiet until it has recovered' : ''}.\n`);
      });
    });

  addCommand(program, alerts, 'silence', 'tell nobody of what fits, for a time; * stands for any text')
    .option('--kind <kind>', ALERT_KINDS.join(', '))
    .option('--endpoint <name>', 'of this endpoint')
    .option('--pipeline <name>', 'of this pipeline')
    .option('--subject <text>', 'a column, a metric, a gate, as `alerts show` names it')
    .option('--for <duration>', 'for so long, from its start: 2h, 3 days')
    .option('--until <time>', 'until then')
    .option('--from <time>', 'from then on (default: now)')
    .requiredOption('--reason <text>', 'why; it stands in the record')
    .option('--by <name>', 'who does (default: the user of this machine)')
    .action(async (options: SilenceOptions) => {
      if ((options.for === undefined) === (options.until === undefined))
        throw new MillraceError('USAGE', 'Say how long: --for or --until, one of the two.', { fix: 'Write --for 2h.' });
      const from = options.from === undefined ? undefined : parseInstant('--from', options.from);
      const until =
        options.until === undefined
          ? new Date((from?.getTime() ?? Date.now()) + parseDurationMs('--for', options.for ?? ''))
          : parseInstant('--until', options.until);
      const input = {
        ...(options.kind === undefined ? {} : { kind: parseKind(options.kind) }),
        ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
        ...(options.pipeline === undefined ? {} : { pipeline: options.pipeline }),
        ...(options.subject === undefined ? {} : { subject: options.subject }),
        ...(from === undefined ? {} : { from: from.toISOString() }),
        until: until.toISOString(),
        reason: options.reason,
      };
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { who: by } = await clients.actor(input.endpoint ?? input.pipeline, options.by);
        const silence = await (await clients.store()).alerts.silence({ ...input, by });
        print(invocation, silence, () => `Silence ${String(silence.id)}: ${matcherOf(silence)}, until ${silence.until}.\n`);
      });
    });

  addCommand(program, alerts, 'silences', 'the silences that are in force or will be')
    .option('--all', 'those that have ended, too')
    .option('--limit <count>', 'at most so many', '50')
    .action(async (options: Common & { all?: boolean; limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const found = await (await clients.store()).alerts.silences({ limit, all: options.all === true });
        print(invocation, found, () =>
          found.length === 0
            ? 'Nothing is silenced.\n'
            : renderTable(
                ['silence', 'of', 'from', 'until', 'by', 'why'],
                found.map((s) => [
                  String(s.id),
                  matcherOf(s),
                  s.from,
                  s.endedAt === null ? s.until : `${s.endedAt} (ended by ${s.endedBy ?? ''})`,
                  s.by,
                  oneLine(s.reason),
                ]),
              ),
        );
      });
    });

  addCommand(program, alerts, 'unsilence <silence>', 'end a silence before its time: what still goes on is told')
    .option('--by <name>', 'who does (default: the user of this machine)')
    .action(async (text: string, options: Common & { by?: string }) => {
      const id = parseId(text);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { who: by } = await clients.actor(undefined, options.by);
        const silence = await (await clients.store()).alerts.endSilence({ id, by });
        print(invocation, silence, () => `Silence ${String(id)} has ended.\n`);
      });
    });

  addCommand(program, alerts, 'test <channel>', 'send a test message through a channel of the config, and say whether it was taken').action(
    async (name: string, options: Common) => {
      const config = await loadCliConfig();
      const names = config.alerts.channels.map((channel) => channel.name);
      const channel = config.alerts.channels.find((known) => known.name === name);
      if (channel === undefined) {
        const near = nearestName(name, names);
        throw new MillraceError('USAGE', `There is no alert channel ${name}.${near === undefined ? '' : ` Is ${near} meant?`}`, {
          fix: names.length === 0 ? 'Give millrace.config.ts a channel under alerts.' : `Use one of ${names.join(', ')}.`,
        });
      }
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = (await clients.store()).alerts;
        const seq = await store.test(name, userInfo().username);
        const untilMs = Date.now() + channel.timeoutMs + TEST_PATIENCE_MS;
        for (;;) {
          const [delivery] = (await store.message(seq)).deliveries;
          const ended = delivery !== undefined && (delivery.deliveredAt ?? delivery.gaveUpAt) !== null;
          if (ended) {
            const taken = delivery.deliveredAt !== null;
            if (!taken) invocation.exit(1);
            print(invocation, { channel: name, taken, error: delivery.lastError }, () =>
              taken ? `${name} has taken the test message.\n` : `${name} did not take the test message: ${delivery.lastError ?? ''}\n`,
            );
            return;
          }
          if (Date.now() > untilMs)
            throw new MillraceError('SERVER_UNAVAILABLE', `The orchestrator did not try the channel ${name} in time.`, {
              fix: 'Start the stack with `millrace up`; one that was started before the channel was added has to be started anew.',
            });
          await sleep(TEST_LOOK_MS);
        }
      });
    },
  );
}
