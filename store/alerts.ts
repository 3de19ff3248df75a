import { and, asc, desc, eq, lt, ne, type SQL, sql } from 'drizzle-orm';
import {
  type AlertKind,
  type AlertLine,
  type AlertMessage,
  type AlertsConfig,
  type AlertStatus,
  type AlertSubject,
  type AlertToRaise,
  WAITING_KINDS,
} from '../contracts/alerts.ts';
import { MillraceError } from '../contracts/errors.ts';
import { writeAudit } from './audit.ts';
import { changeEvidence } from './gate-evidence.ts';
import type { Database, Executor } from './database.ts';
import { onlyRow, storable } from './database.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { alertDeliveries, alertMessages, alertSilences, raisedAlerts, routes, runs } from './schema.ts';

/**
 * What is the matter, who was told of it, and the messages, kept until each channel has taken them.
 *
 * Invariants:
 * 1. An alert is raised and resolved in the transaction of what it tells of. Of one subject at most one is not resolved.
 * 2. What is told of an alert is written as a message in the transaction that marks it as told: once when it is raised,
 *    again only when the cool-down has passed and it was raised since, or when it has become more pressing, and once when
 *    it has recovered. Nothing is told of one that recovered before it was told of.
 * 3. An acknowledged alert is quiet until it recovers, and one that a silence fits until that ends.
 * 4. Each channel of the time when a message is spread gets it at least once, whatever the others do.
 * 5. What nobody looks at any more is closed with the reason, not left open.
 * 6. One process at a time tries a delivery: `claim` leases it. A channel gets what is told of one alert in its order.
 */
type AlertRecord = typeof raisedAlerts.$inferSelect;
/** `silencedUntil` is set while a silence fits, until the last of them ends. */
export type ShownAlert = Omit<AlertRecord, 'identity' | 'dueSince' | 'recoveryDue'> & { readonly silencedUntil: string | null };
export type SilenceRecord = typeof alertSilences.$inferSelect;

export interface DueDelivery {
  readonly message: AlertMessage;
  readonly seq: number;
  readonly channel: string;
  readonly key: string;
  /** Counts this one. */
  readonly attempt: number;
}

export interface ListAlertsInput extends OfProjects {
  /** Default: those that are not resolved. */
  readonly status?: AlertStatus | 'all';
  readonly kind?: AlertKind;
  readonly endpoint?: string;
  readonly pipeline?: string;
  /** Default 50, at most 1,000. */
  readonly limit?: number;
  /** The id of the last one of the page before. */
  readonly before?: number;
}

export interface SilenceInput {
  /** `*` in endpoint, pipeline and subject stands for any text. */
  readonly kind?: AlertKind;
  readonly endpoint?: string;
  readonly pipeline?: string;
  readonly subject?: string;
  /** UTC ISO; default now. */
  readonly from?: string;
  readonly until: string;
  readonly by: string;
  readonly reason: string;
}

/** Longest wait between two attempts. */
const LONGEST_WAIT_SECONDS = 3_600;
/** A message that no attempt has brought through for so long is given up. */
const GIVE_UP_AFTER = '3 days';
/** How long something that is over stays among what is open. */
const EVENT_SHOWN = '1 day';
/** Where the project says nothing else: a queue that goes on filling is told of each hour. */
const COOL_DOWN_HOURS: AlertsConfig['coolDownHoursOf'] = { labels: 1 };
/** What of an endpoint is evidence to those who decide on a version for it. */
const EVIDENCE_KINDS: readonly AlertKind[] = ['drift', 'quality', 'skew', 'data'];
const MOST_LINES = 20;
const FORGOTTEN_AT_ONCE = 5_000;
/** Any number: nothing else takes this lock. */
const GATHER_LOCK = 7_401_007;

const identityOf = ({ kind, endpoint, pipeline, subject }: AlertSubject): string => JSON.stringify([kind, endpoint ?? null, pipeline ?? null, subject]);
const defaultGroup = ({ kind, endpoint, pipeline }: AlertSubject): string =>
  endpoint !== undefined ? `endpoint/${endpoint}` : pipeline !== undefined ? `pipeline/${pipeline}` : kind;
const rank = (column: SQL): SQL => sql`array_position(array['info', 'warning', 'critical'], ${column})`;
/** One raise or resolve of a subject at a time. */
const lock = async (tx: Executor, identity: string): Promise<void> => {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`alert ${identity}`}, 0))`);
};

const like = (text: SQL, pattern: SQL): SQL => sql`${text} like replace(replace(replace(replace(${pattern}, '\\', '\\\\'), '%', '\\%'), '_', '\\_'), '*', '%')`;
/** Silences in force that fit the alert `a`. */
const silences = sql`
  alert_silences s where s."from" <= now() and s.until > now() and s.ended_at is null
    and (s.kind is null or s.kind = a.kind)
    and (s.endpoint is null or ${like(sql`coalesce(a.endpoint, '')`, sql`s.endpoint`)})
    and (s.pipeline is null or ${like(sql`coalesce(a.pipeline, '')`, sql`s.pipeline`)})
    and (s.subject is null or ${like(sql`a.subject`, sql`s.subject`)})`;

/**
 * Raises an alert with whatever transaction `tx` belongs to, or says of one that stands how it is now. Raising it in every
 * window is right: when it is told again is decided by the cool-down. `since` stays the first one.
 * @returns Its id.
 */
export async function raiseAlert(tx: Executor, alert: AlertToRaise): Promise<number> {
  const identity = identityOf(alert);
  await lock(tx, identity);
  // one that recovered a moment ago, of which nobody was told, has not recovered
  await tx.execute(sql`
    update raised_alerts set status = case when acknowledged_at is null then 'open' else 'acknowledged' end, resolved_at = null, resolved_because = null,
      recovery_due = false, due_since = null
    where id = (select max(id) from raised_alerts where identity = ${identity} and recovery_due)
      and not exists (select 1 from raised_alerts where identity = ${identity} and status <> 'resolved')`);
  const values = storable({
    severity: alert.severity ?? 'warning',
    what: alert.what,
    until: alert.until ?? null,
    against: alert.against,
    sure: alert.sure,
    look: alert.look,
    command: alert.command,
    groupKey: alert.group ?? defaultGroup(alert),
    event: alert.event ?? false,
  });
  const written = await tx
    .insert(raisedAlerts)
    .values({
      ...values,
      identity,
      kind: alert.kind,
      endpoint: alert.endpoint ?? null,
      pipeline: alert.pipeline ?? null,
      subject: storable(alert.subject),
      since: alert.since,
    })
    .onConflictDoUpdate({
      target: raisedAlerts.identity,
      targetWhere: sql`status <> 'resolved'`,
      set: {
        ...values,
        since: sql`least(raised_alerts.since, excluded.since)`,
        lastAt: sql`now()`,
        toldAt: sql`case when ${rank(sql`excluded.severity`)} > ${rank(sql`raised_alerts.severity`)} then null else raised_alerts.told_at end`,
      },
    })
    .returning({ id: raisedAlerts.id, isNew: sql<boolean>`(xmax = 0)` });
  const { id, isNew } = onlyRow(written);
  if (isNew && EVIDENCE_KINDS.includes(alert.kind) && alert.endpoint !== undefined) {
    const [served] = await tx.select({ champion: routes.champion }).from(routes).where(eq(routes.endpoint, alert.endpoint));
    if (served?.champion != null) await changeEvidence(tx, { model: served.champion.model, what: `since then: ${alert.what}` });
  }
  return id;
}

export interface ResolveOptions {
  /** When it was over, UTC ISO. Default now. */
  readonly at?: string;
  /** Whether those who were told of it are told that it is over. Default true. */
  readonly tell?: boolean;
  /** It stays while this holds; looked at when nobody else can raise or resolve it. */
  readonly unless?: SQL;
}

/** Resolves the alert of a subject, with whatever transaction `tx` belongs to; true when one stood. */
export async function resolveAlert(tx: Executor, subject: AlertSubject, options: ResolveOptions = {}): Promise<boolean> {
  const identity = identityOf(subject);
  await lock(tx, identity);
  const { rows } = await tx.execute(sql`
    update raised_alerts set status = 'resolved', resolved_at = coalesce(${options.at ?? null}::timestamptz, now()), due_since = null,
      recovery_due = ${options.tell ?? true} and tellings > 0 and not event
    where identity = ${identity} and status <> 'resolved' and not ${options.unless ?? sql`false`} returning id`);
  return rows.length > 0;
}

/** Alerts of some kinds at one endpoint or of one pipeline. */
interface Place {
  readonly kinds: readonly AlertKind[];
  readonly endpoint?: string;
  readonly pipeline?: string;
}

/** Resolves what stands there and goes by none of these identities; what happened and is over is left. @returns Ids. */
async function resolveOthers(
  tx: Executor,
  { kinds, endpoint, pipeline }: Place,
  { kept = [], at, because }: { readonly kept?: readonly string[]; readonly at?: string | undefined; readonly because?: string },
): Promise<readonly number[]> {
  const { rows } = await tx.execute<{ id: string }>(sql`
    update raised_alerts set status = 'resolved', resolved_at = coalesce(${at ?? null}::timestamptz, now()), resolved_because = ${because ?? null},
      due_since = null, recovery_due = tellings > 0
    where status <> 'resolved' and not event and kind in (select jsonb_array_elements_text(${JSON.stringify(kinds)}::jsonb))
      and endpoint is not distinct from ${endpoint ?? null} and pipeline is not distinct from ${pipeline ?? null}
      and identity not in (select jsonb_array_elements_text(${sql.param(JSON.stringify(kept))}::jsonb))
    returning id`);
  return rows.map(({ id }) => Number(id));
}

/** What an alert of a run names beside it; nothing for a run without a record. */
export async function pipelineOf(tx: Executor, runId: string): Promise<Pick<AlertSubject, 'pipeline'>> {
  const [run] = await tx.select({ pipeline: runs.pipeline }).from(runs).where(eq(runs.id, runId));
  return run === undefined ? {} : { pipeline: run.pipeline };
}

export function createAlertsStore({ orm }: Database) {
  const shown = {
    id: raisedAlerts.id,
    kind: raisedAlerts.kind,
    endpoint: raisedAlerts.endpoint,
    pipeline: raisedAlerts.pipeline,
    subject: raisedAlerts.subject,
    severity: raisedAlerts.severity,
    status: raisedAlerts.status,
    what: raisedAlerts.what,
    since: raisedAlerts.since,
    until: raisedAlerts.until,
    against: raisedAlerts.against,
    sure: raisedAlerts.sure,
    look: raisedAlerts.look,
    command: raisedAlerts.command,
    groupKey: raisedAlerts.groupKey,
    event: raisedAlerts.event,
    raisedAt: raisedAlerts.raisedAt,
    lastAt: raisedAlerts.lastAt,
    toldAt: raisedAlerts.toldAt,
    tellings: raisedAlerts.tellings,
    acknowledgedAt: raisedAlerts.acknowledgedAt,
    acknowledgedBy: raisedAlerts.acknowledgedBy,
    comment: raisedAlerts.comment,
    resolvedAt: raisedAlerts.resolvedAt,
    resolvedBecause: raisedAlerts.resolvedBecause,
    // a function of the alert alone, so that it stands among its columns
    silencedUntil: sql<string | null>`(select max(s.until) from raised_alerts a, ${silences} and a.id = raised_alerts.id and a.status <> 'resolved')`.mapWith(
      (value: string) => new Date(value).toISOString(),
    ),
  };
  const get = async (tx: Executor, id: number): Promise<ShownAlert> => {
    const [alert] = await tx.select(shown).from(raisedAlerts).where(eq(raisedAlerts.id, id));
    if (alert === undefined) throw new MillraceError('NOT_FOUND', `There is no alert ${String(id)}.`, { fix: '`millrace alerts list --all` shows them.' });
    return alert;
  };

  return {
    /** As `raiseAlert`, in a transaction of its own. */
    async raise(alert: AlertToRaise): Promise<number> {
      return orm.transaction((tx) => raiseAlert(tx, alert));
    },

    /** As `resolveAlert`, in a transaction of its own. */
    async resolve(subject: AlertSubject, options: ResolveOptions = {}): Promise<boolean> {
      return orm.transaction((tx) => resolveAlert(tx, subject, options));
    },

    /**
     * Raises what is the matter now, and resolves what stood of these kinds at the endpoint or pipeline and is not among
     * it: what a look at one window ends with. Doing it again changes nothing.
     */
    async settle(
      input: Place & {
        readonly firing: readonly AlertToRaise[];
        /** When the others were over, UTC ISO. Default now. */
        readonly at?: string;
      },
    ): Promise<{ readonly raised: readonly number[]; readonly resolved: readonly number[] }> {
      return orm.transaction(async (tx) => {
        // rows of several alerts are changed here and by `gather`, in another order
        await tx.execute(sql`select pg_advisory_xact_lock_shared(${GATHER_LOCK})`);
        // in one order, so that two at a time do not wait for each other
        const firing = [...input.firing].sort((a, b) => (identityOf(a) < identityOf(b) ? -1 : 1));
        const raised: number[] = [];
        for (const alert of firing) raised.push(await raiseAlert(tx, alert));
        return { raised, resolved: await resolveOthers(tx, input, { kept: firing.map(identityOf), at: input.at }) };
      });
    },

    /**
     * Closes what stands there because nobody will look at it any more: a fact that is stated in its record, and to those who
     * were told of it. Again it changes nothing.
     * @returns Ids.
     */
    async abandon(place: Place, because: string): Promise<readonly number[]> {
      return orm.transaction(async (tx) => {
        await tx.execute(sql`select pg_advisory_xact_lock_shared(${GATHER_LOCK})`);
        return resolveOthers(tx, place, { because: storable(because) });
      });
    },

    /**
     * Forgets what was over before an instant (UTC ISO): alerts that were resolved by then, silences that had ended, and
     * messages of before it for which no channel waits. What goes on stays, however old it is.
     */
    async forget(before: string): Promise<{ readonly alerts: number; readonly messages: number; readonly silences: number }> {
      const inBatches = async (batch: SQL): Promise<number> => {
        for (let forgotten = 0; ; ) {
          const { rowCount } = await orm.execute(batch);
          forgotten += rowCount ?? 0;
          if ((rowCount ?? 0) < FORGOTTEN_AT_ONCE) return forgotten;
        }
      };
      return {
        alerts: await inBatches(sql`
          delete from raised_alerts where id in (
            select id from raised_alerts where status = 'resolved' and not recovery_due and resolved_at < ${before}::timestamptz limit ${FORGOTTEN_AT_ONCE})`),
        messages: await inBatches(sql`
          delete from alerts where seq in (
            select a.seq from alerts a where a.spread and a.created_at < ${before}::timestamptz
              and not exists (select 1 from alert_deliveries d where d.alert = a.seq and d.delivered_at is null and d.gave_up_at is null) limit ${FORGOTTEN_AT_ONCE})`),
        silences: await inBatches(sql`
          delete from alert_silences where id in (
            select id from alert_silences where coalesce(ended_at, until) < least(${before}::timestamptz, now()) limit ${FORGOTTEN_AT_ONCE})`),
      };
    },

    /** Newest first. */
    async list(input: ListAlertsInput = {}): Promise<readonly ShownAlert[]> {
      const { status } = input;
      return orm
        .select(shown)
        .from(raisedAlerts)
        .where(
          and(
            status === undefined ? ne(raisedAlerts.status, 'resolved') : status === 'all' ? undefined : eq(raisedAlerts.status, status),
            isOfProjects(sql`coalesce(${raisedAlerts.pipeline}, ${raisedAlerts.endpoint})`, input),
            input.kind === undefined ? undefined : eq(raisedAlerts.kind, input.kind),
            input.endpoint === undefined ? undefined : eq(raisedAlerts.endpoint, input.endpoint),
            input.pipeline === undefined ? undefined : eq(raisedAlerts.pipeline, input.pipeline),
            input.before === undefined ? undefined : lt(raisedAlerts.id, input.before),
          ),
        )
        .orderBy(desc(raisedAlerts.id))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** An alert with the last messages that told of it, each with how its deliveries stand. @throws NOT_FOUND */
    async get(id: number): Promise<ShownAlert & { readonly messages: readonly MessageRecord[] }> {
      return { ...(await get(orm, id)), messages: await messages(sql`${alertMessages.alertIds} @> array[${id}]::bigint[]`, 20) };
    },

    /**
     * Makes an alert quiet until it recovers. The same person again changes nothing but the comment; something that is over
     * is resolved by it.
     * @throws NOT_FOUND, CONFLICT when somebody else did before, or when it is resolved
     */
    async acknowledge(input: { readonly id: number; readonly by: string; readonly comment?: string }): Promise<ShownAlert> {
      return orm.transaction(async (tx) => {
        await tx.select({ id: raisedAlerts.id }).from(raisedAlerts).where(eq(raisedAlerts.id, input.id)).for('update');
        const alert = await get(tx, input.id);
        if (alert.acknowledgedBy !== null && alert.acknowledgedBy !== input.by)
          throw new MillraceError('CONFLICT', `${alert.acknowledgedBy} has acknowledged the alert ${String(input.id)} already.`);
        if (alert.status === 'resolved' && alert.acknowledgedBy === null)
          throw new MillraceError('CONFLICT', `The alert ${String(input.id)} is resolved: there is nothing left to acknowledge.`);
        const { status } = alert;
        await tx
          .update(raisedAlerts)
          .set({
            status: alert.event ? 'resolved' : status === 'open' ? 'acknowledged' : status,
            acknowledgedAt: alert.acknowledgedAt ?? sql`now()`,
            acknowledgedBy: storable(input.by),
            dueSince: status === 'resolved' ? sql`${raisedAlerts.dueSince}` : null,
            ...(alert.event ? { resolvedAt: alert.resolvedAt ?? sql`now()` } : {}),
            ...(input.comment === undefined ? {} : { comment: storable(input.comment) }),
          })
          .where(eq(raisedAlerts.id, input.id));
        const after = await get(tx, input.id);
        await writeAudit(tx, {
          action: 'alert.acknowledge',
          subject: `alerts/${String(input.id)}`,
          who: input.by,
          details: { what: after.what, comment: input.comment ?? null },
        });
        return after;
      });
    },

    /** Keeps quiet what fits. The same again, while it is in force, gives the one that is there. @throws INVALID_REQUEST */
    async silence(input: SilenceInput): Promise<SilenceRecord> {
      const { kind = null, endpoint = null, pipeline = null, subject = null } = input;
      const from = input.from ?? new Date().toISOString();
      const problems = [
        ...((kind ?? endpoint ?? pipeline ?? subject)
          ? []
          : [{ path: 'kind', message: 'nothing says what to silence', fix: 'Give a kind, an endpoint, a pipeline or a subject.' }]),
        ...(Date.parse(input.until) > Math.max(Date.now(), Date.parse(from))
          ? []
          : [{ path: 'until', message: 'is not after its start and after now', found: input.until }]),
      ];
      if (problems.length > 0) throw new MillraceError('INVALID_REQUEST', 'The silence does not fit.', { problems });
      const values = storable({ kind, endpoint, pipeline, subject, until: input.until, by: input.by, reason: input.reason });
      return orm.transaction(async (tx) => {
        await lock(tx, 'silences');
        const [same] = await tx
          .select()
          .from(alertSilences)
          .where(
            and(
              sql`(kind, endpoint, pipeline, subject, until, by, reason) is not distinct from (${kind}::text, ${values.endpoint}::text, ${values.pipeline}::text, ${values.subject}::text, ${values.until}::timestamptz, ${values.by}::text, ${values.reason}::text)`,
              sql`ended_at is null and until > now()`,
              input.from === undefined ? undefined : eq(alertSilences.from, input.from),
            ),
          );
        if (same !== undefined) return same;
        const made = onlyRow(
          await tx
            .insert(alertSilences)
            .values({ ...values, from })
            .returning(),
        );
        await writeAudit(tx, { action: 'silence.begin', subject: `silences/${String(made.id)}`, who: input.by, details: { ...values, from } });
        return made;
      });
    },

    /** Ends a silence before its time; again it changes nothing. @throws NOT_FOUND */
    async endSilence(input: { readonly id: number; readonly by: string }): Promise<SilenceRecord> {
      await orm.transaction(async (tx) => {
        const ended = await tx
          .update(alertSilences)
          .set({ endedAt: sql`now()`, endedBy: storable(input.by) })
          .where(and(eq(alertSilences.id, input.id), sql`ended_at is null and until > now()`))
          .returning({ id: alertSilences.id });
        for (const { id } of ended) await writeAudit(tx, { action: 'silence.end', subject: `silences/${String(id)}`, who: input.by });
      });
      const [silence] = await orm.select().from(alertSilences).where(eq(alertSilences.id, input.id));
      if (silence === undefined)
        throw new MillraceError('NOT_FOUND', `There is no silence ${String(input.id)}.`, { fix: '`millrace alerts silences --all` shows them.' });
      return silence;
    },

    /** Those that are in force or will be; `all`: the past ones too. Newest first. */
    async silences(input: { readonly all?: boolean; readonly limit?: number; readonly before?: number } = {}): Promise<readonly SilenceRecord[]> {
      return orm
        .select()
        .from(alertSilences)
        .where(
          and(
            input.all === true ? undefined : sql`ended_at is null and until > now()`,
            input.before === undefined ? undefined : lt(alertSilences.id, input.before),
          ),
        )
        .orderBy(desc(alertSilences.id))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** Writes a message for each group of which there is something to tell and whose wait is over. @returns How many. */
    async gather({ groupWaitSeconds, coolDownHours, coolDownHoursOf }: Omit<AlertsConfig, 'channels'>): Promise<number> {
      return orm.transaction(async (tx) => {
        const { locked } = onlyRow((await tx.execute<{ locked: boolean }>(sql`select pg_try_advisory_xact_lock(${GATHER_LOCK}) as locked`)).rows);
        if (!locked) return 0;
        const silenced = sql`exists (select 1 from ${silences})`;
        await tx.execute(sql`
          update raised_alerts a set status = 'resolved', resolved_at = now(), due_since = null
          where a.status <> 'resolved' and a.event and (a.told_at < now() - ${EVENT_SHOWN}::interval or (a.told_at is null and ${silenced}))`);
        await tx.execute(sql`update raised_alerts a set recovery_due = false, due_since = null where a.recovery_due and ${silenced}`);
        const coolDowns = JSON.stringify({ ...COOL_DOWN_HOURS, ...coolDownHoursOf });
        const coolDown = sql`make_interval(secs => 3600 * coalesce((${coolDowns}::jsonb ->> a.kind)::float8, ${coolDownHours}::float8))`;
        await tx.execute(sql`
          update raised_alerts a set due_since = case when due then coalesce(due_since, now()) end
          from (
            select a.id, a.recovery_due or (a.status = 'open' and not ${silenced} and (a.told_at is null or a.last_at >= a.told_at + ${coolDown})) as due
            from raised_alerts a where a.status <> 'resolved' or a.recovery_due
          ) b
          where b.id = a.id and b.due <> (a.due_since is not null)`);
        const atOnce = sql`(select jsonb_array_elements_text(${JSON.stringify(WAITING_KINDS)}::jsonb))`;
        const due = await tx
          .select()
          .from(raisedAlerts)
          .where(
            sql`due_since is not null and group_key in (
              select group_key from raised_alerts where due_since is not null and (status <> 'resolved' or recovery_due)
              group by 1 having bool_or(kind in ${atOnce} or due_since <= now()::timestamptz(3) - make_interval(secs => ${groupWaitSeconds}::float8)))`,
          )
          .orderBy(sql`group_key, recovery_due, ${rank(sql`severity`)} desc, id`);
        const groups = new Map<string, AlertRecord[]>();
        for (const alert of due) {
          const group = groups.get(alert.groupKey) ?? [];
          group.push(alert);
          groups.set(alert.groupKey, group);
        }
        for (const group of groups.values()) {
          const ids = group.map(({ id }) => id);
          const key = `alert/${String(group[0]?.id)}/${String((group[0]?.tellings ?? 0) + 1)}`;
          await tx.insert(alertMessages).values({ key, message: storable(messageOf(group)), alertIds: ids });
          await tx.execute(sql`
            update raised_alerts set told_at = now(), tellings = tellings + 1, due_since = null, recovery_due = false
            where id in (select jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb)::bigint)`);
        }
        return groups.size;
      });
    },

    /** Makes a delivery of every message that has none yet to each channel that takes it. */
    async spread(channels: readonly { readonly name: string; readonly takes: (message: AlertMessage) => boolean }[]): Promise<void> {
      await orm.transaction(async (tx) => {
        const found = await tx
          .update(alertMessages)
          .set({ spread: true })
          .where(sql`not spread`)
          .returning({ alert: alertMessages.seq, message: alertMessages.message });
        const deliveries = found.flatMap(({ alert, message }) => channels.flatMap(({ name, takes }) => (takes(message) ? [{ alert, channel: name }] : [])));
        if (deliveries.length > 0) await tx.insert(alertDeliveries).values(deliveries).onConflictDoNothing();
      });
    },

    /** A message that only tries one channel; it is tried once. @returns Its number. */
    async test(channel: string, by: string): Promise<number> {
      return orm.transaction(async (tx) => {
        const since = new Date().toISOString();
        const message: AlertMessage = {
          kind: 'test',
          what: `A test of the channel ${channel}, asked for by ${by}: nothing is the matter.`,
          since,
          until: null,
          look: '/api/v1/alerts',
          command: 'millrace alerts list',
        };
        const key = sql<string>`'test/' || gen_random_uuid()`;
        const { seq } = onlyRow(
          await tx
            .insert(alertMessages)
            .values({ key, message: storable(message), spread: true })
            .returning({ seq: alertMessages.seq }),
        );
        await tx.insert(alertDeliveries).values({ alert: seq, channel });
        return seq;
      });
    },

    /** How a message stands. @throws NOT_FOUND */
    async message(seq: number): Promise<MessageRecord> {
      const [message] = await messages(eq(alertMessages.seq, seq), 1);
      if (message === undefined) throw new MillraceError('NOT_FOUND', `There is no message ${String(seq)}.`);
      return message;
    },

    /** The channel's next message, the oldest first; nobody else gets it for `leaseSeconds`. Null when none is due. */
    async claim(channel: string, options: { readonly leaseSeconds: number }): Promise<DueDelivery | null> {
      const { rows } = await orm.execute<{ alert: string; key: string; message: AlertMessage; attempts: number }>(sql`
        with due as (
          select d.alert, d.channel from alert_deliveries d join alerts a on a.seq = d.alert
          where d.channel = ${channel} and d.delivered_at is null and d.gave_up_at is null and d.next_at <= now()
            and not exists (
              select 1 from alert_deliveries e join alerts b on b.seq = e.alert
              where e.channel = d.channel and e.alert < d.alert and e.delivered_at is null and e.gave_up_at is null and b.alert_ids && a.alert_ids)
          order by d.alert limit 1 for update of d skip locked
        )
        update alert_deliveries d set attempts = d.attempts + 1, next_at = now() + make_interval(secs => ${options.leaseSeconds})
        from due join alerts a on a.seq = due.alert
        where d.alert = due.alert and d.channel = due.channel
        returning d.alert, a.key, a.message, d.attempts`);
      const [row] = rows;
      return row === undefined ? null : { seq: Number(row.alert), channel, key: row.key, message: row.message, attempt: row.attempts };
    },

    /** Channels that have taken nothing for so long although something waits, with what the oldest attempt met. */
    async failing(forMs: number): Promise<readonly FailingChannel[]> {
      const { rows } = await orm.execute<{ channel: string; waiting: number; oldest: string; last_error: string }>(sql`
        select d.channel, count(*)::int as waiting, min(a.created_at) as oldest, (array_agg(d.last_error order by d.alert))[1] as last_error
        from alert_deliveries d join alerts a on a.seq = d.alert
        where d.delivered_at is null and d.gave_up_at is null and d.last_error is not null
          and not exists (select 1 from alert_deliveries e where e.channel = d.channel and e.delivered_at > a.created_at)
        group by d.channel having min(a.created_at) <= now() - make_interval(secs => ${forMs / 1_000}::float8) order by d.channel`);
      return rows.map(({ channel, waiting, oldest, last_error: lastError }) => ({ channel, waiting, oldest: new Date(oldest).toISOString(), lastError }));
    },

    async delivered({ seq, channel }: Pick<DueDelivery, 'seq' | 'channel'>): Promise<void> {
      await orm
        .update(alertDeliveries)
        .set({ deliveredAt: sql`now()`, lastError: null })
        .where(and(eq(alertDeliveries.alert, seq), eq(alertDeliveries.channel, channel)));
    },

    /** Tries again later, each time after twice the wait; given up after three days, a test at once. `why` is a sentence of ours. */
    async failed(delivery: DueDelivery, why: string): Promise<void> {
      const waitSeconds = Math.min(LONGEST_WAIT_SECONDS, 2 ** Math.min(delivery.attempt - 1, 20));
      await orm.execute(sql`
        update alert_deliveries d set last_error = ${storable(why)}, next_at = now() + make_interval(secs => ${waitSeconds}),
          gave_up_at = case when ${delivery.message.kind === 'test'} or a.created_at < now() - ${GIVE_UP_AFTER}::interval then now() end
        from alerts a where a.seq = d.alert and d.alert = ${delivery.seq} and d.channel = ${delivery.channel} and d.delivered_at is null`);
    },
  };

  async function messages(where: SQL, limit: number): Promise<readonly MessageRecord[]> {
    const found = await orm
      .select({ seq: alertMessages.seq, key: alertMessages.key, message: alertMessages.message, createdAt: alertMessages.createdAt })
      .from(alertMessages)
      .where(where)
      .orderBy(desc(alertMessages.seq))
      .limit(limit);
    return Promise.all(
      found.map(async (message) => ({
        ...message,
        deliveries: await orm
          .select({
            channel: alertDeliveries.channel,
            attempts: alertDeliveries.attempts,
            nextAt: alertDeliveries.nextAt,
            deliveredAt: alertDeliveries.deliveredAt,
            gaveUpAt: alertDeliveries.gaveUpAt,
            lastError: alertDeliveries.lastError,
          })
          .from(alertDeliveries)
          .where(eq(alertDeliveries.alert, message.seq))
          .orderBy(asc(alertDeliveries.channel)),
      })),
    );
  }
}
export type AlertsStore = ReturnType<typeof createAlertsStore>;

interface FailingChannel {
  readonly channel: string;
  /** Messages that were tried and not taken. */
  readonly waiting: number;
  /** When the oldest of them was written, UTC ISO. */
  readonly oldest: string;
  readonly lastError: string;
}

/** A message, and how far it has come. */
export interface MessageRecord {
  readonly seq: number;
  readonly key: string;
  readonly message: AlertMessage;
  readonly createdAt: string;
  readonly deliveries: readonly Omit<typeof alertDeliveries.$inferSelect, 'alert'>[];
}

const lineOf = (alert: AlertRecord): AlertLine => ({
  id: alert.id,
  state: alert.status === 'resolved' ? 'recovered' : 'firing',
  kind: alert.kind,
  severity: alert.severity,
  endpoint: alert.endpoint,
  pipeline: alert.pipeline,
  subject: alert.subject,
  what: alert.what,
  since: alert.since,
  until: alert.until,
  ended: alert.resolvedAt,
  because: alert.resolvedBecause,
  against: alert.against,
  sure: alert.sure,
  look: alert.look,
  command: alert.command,
});

/** One message of a group, the most pressing first. */
function messageOf(group: readonly AlertRecord[]): AlertMessage {
  const lines = group.slice(0, MOST_LINES).map(lineOf);
  const [first] = lines;
  if (first === undefined) throw new Error('a group without alerts');
  const { kind, look, command, until } = first;
  return {
    kind,
    what: headline(group),
    since: group.reduce((earliest, { since }) => (since < earliest ? since : earliest), first.since),
    until,
    look,
    command,
    alerts: lines,
    ...(group.length > lines.length ? { more: group.length - lines.length } : {}),
  };
}

function headline(group: readonly AlertRecord[]): string {
  const [first] = group;
  const over = group.filter(({ status }) => status === 'resolved').length;
  const said =
    first === undefined ? '' : first.status === 'resolved' ? `${first.resolvedBecause === null ? 'Recovered' : 'Closed'}: ${first.what}` : first.what;
  if (group.length === 1) return said;
  const counts = [...(group.length > over ? [`${String(group.length - over)} alerts`] : []), ...(over > 0 ? [`${String(over)} recovered`] : [])].join(', ');
  const of = first?.endpoint ?? first?.pipeline;
  return `${counts}${of == null ? '' : ` at ${of}`}: ${said}`;
}
