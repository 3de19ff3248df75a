import { createHash } from 'node:crypto';
import { and, asc, eq, inArray, sql } from 'drizzle-orm';
import type { AlertSubject } from '../contracts/alerts.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { FlaggedRow, LabelItemDraft, LabelValue, PeoplesAnswers } from '../contracts/labels.ts';
import { pipelineOf, raiseAlert, resolveAlert } from './alerts.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { labelAnswers, labelItems, labelQueues, labelRequestItems, type LabelRequestStatus, labelRequests } from './schema.ts';

/**
 * Queues in which people give labels.
 *
 * Invariants:
 * 1. An item is one row's values (or one flagged prediction) in one queue: what was answered once is not asked again, in
 *    whatever run.
 * 2. A person answers an item once; the same answer again changes nothing. Whoever is shown an item holds it for a while,
 *    so that two people do not work on the same one.
 * 3. An item is settled when as many people as asked for have answered: by the majority; a tie asks one person more (where
 *    the queue says so), and stays without a label if that does not decide.
 * 4. Only items that an open request asks for, or that were flagged, are shown.
 */
export type LabelQueueRecord = typeof labelQueues.$inferSelect;
export type LabelItemRecord = typeof labelItems.$inferSelect;
export type LabelAnswerRecord = typeof labelAnswers.$inferSelect;
export type LabelRequestRecord = typeof labelRequests.$inferSelect;

export interface OpenQueueInput {
  readonly name: string;
  readonly question?: string;
  readonly classes: readonly LabelValue[];
  readonly labellers?: number;
  /** Default true. */
  readonly breakTies?: boolean;
}

export interface LabelRequestInput extends OpenQueueInput {
  readonly runId: string;
  readonly stage: string;
  readonly workflowId: string;
  /** UTC ISO; null waits for ever. */
  readonly expiresAt: string | null;
  readonly items: readonly LabelItemDraft[];
}

export interface RequestProgress {
  readonly id: string;
  readonly status: LabelRequestStatus;
  readonly asked: number;
  /** Items that still wait for answers. */
  readonly open: number;
}

export interface QueueProgress extends LabelQueueRecord {
  readonly open: number;
  readonly settled: number;
  /** Settled without a label. */
  readonly undecided: number;
  /** Runs that wait. */
  readonly waiting: number;
}

/** What a person is shown. */
export interface ShownItem {
  readonly id: string;
  readonly queue: string;
  readonly shown: Readonly<Record<string, LabelValue | null>>;
  readonly heldUntil: string;
}

const HOLD = '10 minutes';
/** More answers to one queue than this are not read for its figures. */
const MAX_FIGURED = 200_000;
const INSERT_AT_ONCE = 500;

const itemId = (queue: string, edition: number, key: string): string =>
  createHash('sha256')
    .update(JSON.stringify([queue, edition, key]))
    .digest('hex')
    .slice(0, 32);
const requestId = (runId: string, stage: string): string =>
  createHash('sha256')
    .update(JSON.stringify([runId, stage]))
    .digest('hex')
    .slice(0, 32);

const requestAlert = (id: string, queue: string): AlertSubject => ({ kind: 'labels', subject: `queue ${queue} request ${id}` });
const queueAlert = (queue: string): AlertSubject => ({ kind: 'labels', subject: `queue ${queue}` });

export function createLabelsStore({ orm }: Database) {
  const find = async (tx: Executor, name: string): Promise<LabelQueueRecord> => {
    const [queue] = await tx.select().from(labelQueues).where(eq(labelQueues.name, name));
    if (queue === undefined) throw new MillraceError('NOT_FOUND', `There is no label queue ${name}.`, { fix: '`millrace labels list` shows the queues.' });
    return queue;
  };

  /** Makes the queue, or brings its question up to date. Other classes make a new edition: nobody may wait for the old one. */
  const open = async (tx: Executor, input: OpenQueueInput, mine?: string): Promise<LabelQueueRecord> => {
    const values = {
      question: input.question === undefined ? null : storable(input.question),
      classes: storable(input.classes),
      labellers: input.labellers ?? 1,
      breakTies: input.breakTies ?? true,
    };
    await tx
      .insert(labelQueues)
      .values({ name: input.name, ...values })
      .onConflictDoNothing();
    const [before] = await tx.select().from(labelQueues).where(eq(labelQueues.name, input.name)).for('update');
    const queue = onlyRow(before === undefined ? [] : [before]);
    const sameClasses = JSON.stringify(queue.classes) === JSON.stringify(values.classes);
    if (!sameClasses) {
      const waiting = await tx
        .select({ id: labelRequests.id })
        .from(labelRequests)
        .where(and(eq(labelRequests.queue, input.name), eq(labelRequests.status, 'open')));
      if (waiting.some(({ id }) => id !== mine))
        throw new MillraceError('CONFLICT', `A run waits in the label queue ${input.name} for other classes: ${queue.classes.map(String).join(', ')}.`, {
          fix: 'Give this label() a queue of its own, or wait until that run has ended.',
        });
      await tx
        .update(labelItems)
        .set({ status: 'withdrawn' })
        .where(and(eq(labelItems.queue, input.name), eq(labelItems.status, 'open')));
      await resolveWhenEmpty(tx, input.name);
    }
    return onlyRow(
      await tx
        .update(labelQueues)
        .set({ ...values, edition: sameClasses ? queue.edition : queue.edition + 1 })
        .where(eq(labelQueues.name, input.name))
        .returning(),
    );
  };

  const put = async (
    tx: Executor,
    queue: LabelQueueRecord,
    drafts: readonly (LabelItemDraft & { readonly flagged?: FlaggedRow })[],
  ): Promise<readonly string[]> => {
    const ids: string[] = [];
    for (let at = 0; at < drafts.length; at += INSERT_AT_ONCE) {
      const values = drafts.slice(at, at + INSERT_AT_ONCE).map((draft) => ({
        id: itemId(queue.name, queue.edition, draft.key),
        queue: queue.name,
        edition: queue.edition,
        key: draft.key,
        shown: storable(draft.shown),
        priority: draft.priority,
        needed: queue.labellers,
        flagged: draft.flagged ?? null,
      }));
      ids.push(...values.map(({ id }) => id));
      // one that was asked before keeps its answers; one that was withdrawn is asked again
      await tx
        .insert(labelItems)
        .values(values)
        .onConflictDoUpdate({
          target: [labelItems.queue, labelItems.edition, labelItems.key],
          set: { status: sql`case when ${labelItems.status} = 'withdrawn' then 'open' else ${labelItems.status} end`, priority: sql`excluded.priority` },
        });
    }
    return ids;
  };

  const progress = async (tx: Executor, id: string): Promise<RequestProgress> => {
    const { rows } = await tx.execute<{ status: LabelRequestStatus; asked: number; open: number }>(sql`
      select r.status, count(i.id)::int as asked, (count(i.id) filter (where i.status <> 'settled'))::int as open
      from label_requests r left join label_request_items x on x.request_id = r.id left join label_items i on i.id = x.item_id
      where r.id = ${id} group by r.id`);
    const [row] = rows;
    if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no label request ${id}.`);
    return { id, ...row };
  };

  const resolveWhenEmpty = async (tx: Executor, name: string): Promise<void> => {
    const unless = sql`exists (select 1 from label_items where queue = ${name} and status = 'open' and flagged is not null)`;
    await resolveAlert(tx, queueAlert(name), { tell: false, unless });
  };

  /** Decides the item when enough people have answered. */
  const settle = async (tx: Executor, item: LabelItemRecord, queue: LabelQueueRecord): Promise<void> => {
    const answers = await tx.select().from(labelAnswers).where(eq(labelAnswers.itemId, item.id));
    const outcome = outcomeOf(
      answers.map(({ label }) => label),
      queue,
    );
    const change =
      outcome.kind === 'settled'
        ? { status: 'settled' as const, label: outcome.label, settledAt: sql`now()`, heldBy: null, heldUntil: null }
        : { status: 'open' as const, label: null, settledAt: null, needed: outcome.needed, heldBy: null, heldUntil: null };
    await tx.update(labelItems).set(change).where(eq(labelItems.id, item.id));
    if (item.flagged !== null && change.status === 'settled') await resolveWhenEmpty(tx, queue.name);
  };

  /** Ends the request; items that nobody else waits for are asked no more. */
  const close = async (tx: Executor, id: string, status: LabelRequestStatus): Promise<void> => {
    const ended = await tx
      .update(labelRequests)
      .set({ status, closedAt: sql`now()` })
      .where(and(eq(labelRequests.id, id), eq(labelRequests.status, 'open')))
      .returning({ queue: labelRequests.queue, runId: labelRequests.runId });
    const [request] = ended;
    if (request === undefined) return;
    await resolveAlert(tx, { ...requestAlert(id, request.queue), ...(await pipelineOf(tx, request.runId)) }, { tell: false });
    await tx.execute(sql`
      update label_items i set status = 'withdrawn', held_by = null, held_until = null
      where i.status = 'open' and i.flagged is null and i.id in (select item_id from label_request_items where request_id = ${id})
        and not exists (select 1 from label_request_items x join label_requests r on r.id = x.request_id where x.item_id = i.id and r.status = 'open')`);
  };

  return {
    /** Makes a standing queue, or brings its question up to date. @throws CONFLICT where a run waits for other classes */
    async openQueue(input: OpenQueueInput): Promise<LabelQueueRecord> {
      return orm.transaction((tx) => open(tx, input));
    },

    /** @throws NOT_FOUND */
    async queue(name: string): Promise<LabelQueueRecord> {
      return find(orm, name);
    },

    /**
     * Asks for labels on behalf of a run, and tells the alert channels; asking again changes nothing.
     * @throws CONFLICT where another run waits in the queue for other classes
     */
    async request(input: LabelRequestInput): Promise<RequestProgress> {
      const id = requestId(input.runId, input.stage);
      return orm.transaction(async (tx) => {
        const [before] = await tx.select({ id: labelRequests.id }).from(labelRequests).where(eq(labelRequests.id, id));
        if (before !== undefined) return progress(tx, id);
        const queue = await open(tx, input, id);
        await tx
          .insert(labelRequests)
          .values({ id, queue: queue.name, runId: input.runId, stage: input.stage, workflowId: input.workflowId, expiresAt: input.expiresAt });
        const ids = await put(tx, queue, input.items);
        for (let at = 0; at < ids.length; at += INSERT_AT_ONCE)
          await tx
            .insert(labelRequestItems)
            .values(ids.slice(at, at + INSERT_AT_ONCE).map((item) => ({ requestId: id, itemId: item })))
            .onConflictDoNothing();
        const asked = await progress(tx, id);
        if (asked.open > 0)
          await raiseAlert(tx, {
            ...requestAlert(id, queue.name),
            ...(await pipelineOf(tx, input.runId)),
            severity: 'info',
            what: `Run ${input.runId.slice(0, 8)} waits for ${asked.open.toLocaleString('en')} labels in the queue ${queue.name}.`,
            since: new Date().toISOString(),
            ...(input.expiresAt === null ? {} : { until: input.expiresAt }),
            against: null,
            sure: null,
            look: `/api/v1/label-queues/${queue.name}`,
            command: `millrace label ${queue.name}`,
            group: `labels/${id}`,
          });
        return asked;
      });
    },

    /** @throws NOT_FOUND */
    async progress(id: string): Promise<RequestProgress> {
      return progress(orm, id);
    },

    /** Ends a request and gives what was answered, in the order of the items' keys; one that is not answered yet is not ended as `answered`. @throws NOT_FOUND */
    async close(id: string, status: Exclude<LabelRequestStatus, 'open'>): Promise<PeoplesAnswers & { readonly progress: RequestProgress }> {
      return orm.transaction(async (tx) => {
        await tx.select({ id: labelRequests.id }).from(labelRequests).where(eq(labelRequests.id, id)).for('update');
        const before = await progress(tx, id);
        // an answer may have been taken back meanwhile: then the run waits on
        if (status === 'answered' && before.open > 0) return { progress: before, items: [] };
        await close(tx, id, status);
        const items = await tx
          .select({ id: labelItems.id, key: labelItems.key, label: labelItems.label, status: labelItems.status })
          .from(labelItems)
          .innerJoin(labelRequestItems, eq(labelRequestItems.itemId, labelItems.id))
          .where(eq(labelRequestItems.requestId, id))
          .orderBy(asc(labelItems.key));
        const answers = new Map<string, LabelAnswerRecord[]>();
        for (let at = 0; at < items.length; at += INSERT_AT_ONCE) {
          const slice = items.slice(at, at + INSERT_AT_ONCE).map((item) => item.id);
          for (const answer of await tx
            .select()
            .from(labelAnswers)
            .where(inArray(labelAnswers.itemId, slice))
            .orderBy(asc(labelAnswers.at), asc(labelAnswers.by))) {
            const of = answers.get(answer.itemId) ?? [];
            of.push(answer);
            answers.set(answer.itemId, of);
          }
        }
        return {
          progress: before,
          items: items.map((item) => ({
            key: item.key,
            label: item.status === 'settled' ? item.label : null,
            answers: (answers.get(item.id) ?? []).map(({ by, label, at, comment }) => ({ by, label, at, comment })),
          })),
        };
      });
    },

    /** Puts flagged predictions into a queue; the same one again changes nothing. @throws NOT_FOUND for a queue that is not there */
    async enqueue(
      name: string,
      items: readonly (FlaggedRow & { readonly shown: Readonly<Record<string, LabelValue | null>>; readonly priority?: number })[],
    ): Promise<readonly string[]> {
      return orm.transaction(async (tx) => {
        const queue = await find(tx, name);
        const ids = await put(
          tx,
          queue,
          items.map(({ endpoint, requestId: request, row, shown, priority }) => ({
            key: `${endpoint}/${request}/${String(row)}`,
            shown,
            priority: priority ?? 0,
            flagged: { endpoint, requestId: request, row },
          })),
        );
        await raiseAlert(tx, {
          ...queueAlert(name),
          severity: 'info',
          what: `Predictions were flagged for review in the queue ${name}.`,
          since: new Date().toISOString(),
          against: null,
          sure: null,
          look: `/api/v1/label-queues/${name}`,
          command: `millrace label ${name}`,
          group: `labels/${name}`,
        });
        return ids;
      });
    },

    /** The next item for this person, held for ten minutes; the one that they hold already comes first. Null when there is none. @throws NOT_FOUND */
    async next(name: string, by: string): Promise<ShownItem | null> {
      await find(orm, name);
      const { rows } = await orm.execute<{ id: string; shown: ShownItem['shown']; until: string }>(sql`
        with candidate as (
          select i.id from label_items i
          where i.queue = ${name} and i.status = 'open'
            and (i.held_until is null or i.held_until < now() or i.held_by = ${by})
            and not exists (select 1 from label_answers a where a.item_id = i.id and a.by = ${by})
          order by (i.held_by = ${by} and i.held_until >= now()) is true desc, i.priority desc, i.seq
          limit 1 for update skip locked
        )
        update label_items i set held_by = ${by}, held_until = now() + ${HOLD}::interval from candidate where i.id = candidate.id
        returning i.id, i.shown, i.held_until as until`);
      const [row] = rows;
      return row === undefined ? null : { id: row.id, queue: name, shown: row.shown, heldUntil: new Date(row.until).toISOString() };
    },

    /**
     * Takes a person's answer; null skips. The same answer again changes nothing.
     * @throws NOT_FOUND, INVALID_REQUEST for a label that is no class, CONFLICT where the person answered otherwise or the
     * item is not asked any more
     */
    async answer(
      name: string,
      input: { readonly item: string; readonly by: string; readonly label: LabelValue | null; readonly comment?: string },
    ): Promise<LabelItemRecord> {
      return orm.transaction(async (tx) => {
        const queue = await find(tx, name);
        const [item] = await tx.select().from(labelItems).where(eq(labelItems.id, input.item)).for('update');
        if (item === undefined || item.queue !== name) throw new MillraceError('NOT_FOUND', `The queue ${name} has no item ${input.item}.`);
        const label = input.label === null ? null : String(input.label);
        if (label !== null && !queue.classes.some((value) => String(value) === label)) {
          throw new MillraceError('INVALID_REQUEST', `${JSON.stringify(label)} is not a class of the queue ${name}.`, {
            problems: [{ path: 'label', message: 'is not a class of the queue', found: label, fix: `Use one of ${queue.classes.map(String).join(', ')}.` }],
          });
        }
        const [before] = await tx
          .select()
          .from(labelAnswers)
          .where(and(eq(labelAnswers.itemId, item.id), eq(labelAnswers.by, input.by)));
        if (before !== undefined) {
          if (before.label === label) return item;
          throw new MillraceError('CONFLICT', `${input.by} has answered this item already: ${before.label ?? 'skipped'}.`, {
            fix: 'Take the answer back first, while the item is open.',
          });
        }
        if (item.status !== 'open')
          throw new MillraceError('CONFLICT', `The item is ${item.status}: no more answers are taken.`, { fix: 'Ask for the next item.' });
        await tx
          .insert(labelAnswers)
          .values({ itemId: item.id, by: storable(input.by), label, comment: input.comment === undefined ? null : storable(input.comment) });
        await settle(tx, item, queue);
        return onlyRow(await tx.select().from(labelItems).where(eq(labelItems.id, item.id)));
      });
    },

    /** Takes an answer back, while somebody still waits for the item. @throws NOT_FOUND, CONFLICT where what it was for has gone on */
    async takeBack(name: string, input: { readonly item: string; readonly by: string }): Promise<void> {
      await orm.transaction(async (tx) => {
        const queue = await find(tx, name);
        const [item] = await tx.select().from(labelItems).where(eq(labelItems.id, input.item)).for('update');
        const gone =
          item === undefined || item.queue !== name
            ? []
            : await tx
                .delete(labelAnswers)
                .where(and(eq(labelAnswers.itemId, item.id), eq(labelAnswers.by, input.by)))
                .returning();
        if (item === undefined || gone.length === 0) throw new MillraceError('NOT_FOUND', `${input.by} has not answered the item ${input.item}.`);
        const { rows } = await tx.execute(sql`
          select 1 from label_request_items x join label_requests r on r.id = x.request_id
          where x.item_id = ${item.id} and r.status = 'open' and r.told_at is null limit 1 for update of r`);
        if (item.fedBackAt !== null || (item.flagged === null && rows.length === 0))
          throw new MillraceError('CONFLICT', 'The answer is in use already: it cannot be taken back.', { fix: 'The run that asked has gone on.' });
        await settle(tx, item, queue);
      });
    },

    async list(): Promise<readonly QueueProgress[]> {
      const queues = await orm.select().from(labelQueues).orderBy(asc(labelQueues.name));
      const { rows } = await orm.execute<{ queue: string; open: number; settled: number; undecided: number }>(sql`
        select i.queue, (count(*) filter (where i.status = 'open'))::int as open, (count(*) filter (where i.status = 'settled'))::int as settled,
          (count(*) filter (where i.status = 'settled' and i.label is null))::int as undecided
        from label_items i join label_queues q on q.name = i.queue and q.edition = i.edition group by i.queue`);
      const waiting = await orm.execute<{ queue: string; n: number }>(
        sql`select queue, count(*)::int as n from label_requests where status = 'open' group by queue`,
      );
      return queues.map((queue) => {
        const { open: openItems, settled, undecided } = rows.find((row) => row.queue === queue.name) ?? { open: 0, settled: 0, undecided: 0 };
        return { ...queue, open: openItems, settled, undecided, waiting: waiting.rows.find((row) => row.queue === queue.name)?.n ?? 0 };
      });
    },

    /** Every answer of the queue's present edition that is not a skip, by item. At most 200,000. */
    async answers(
      name: string,
    ): Promise<readonly { readonly item: string; readonly by: string; readonly label: string | null; readonly settled: string | null }[]> {
      const queue = await find(orm, name);
      return orm
        .select({ item: labelAnswers.itemId, by: labelAnswers.by, label: labelAnswers.label, settled: labelItems.label })
        .from(labelAnswers)
        .innerJoin(labelItems, eq(labelItems.id, labelAnswers.itemId))
        .where(and(eq(labelItems.queue, name), eq(labelItems.edition, queue.edition)))
        .orderBy(asc(labelAnswers.itemId), asc(labelAnswers.by))
        .limit(MAX_FIGURED);
    },

    /** Requests of which every item is settled, and whose run was not told. */
    async untold(): Promise<readonly LabelRequestRecord[]> {
      return orm
        .select()
        .from(labelRequests)
        .where(
          sql`${labelRequests.status} = 'open' and ${labelRequests.toldAt} is null and not exists (
            select 1 from label_request_items x join label_items i on i.id = x.item_id where x.request_id = ${labelRequests.id} and i.status <> 'settled')`,
        )
        .limit(100);
    },

    async told(id: string): Promise<void> {
      await orm.update(labelRequests).set({ toldAt: sql`now()` }).where(eq(labelRequests.id, id));
    },

    /** Settled labels of flagged predictions that are not in their endpoint's feedback yet. */
    async unfed(
      limit = 500,
    ): Promise<readonly { readonly id: string; readonly flagged: FlaggedRow; readonly label: LabelValue; readonly settledAt: string }[]> {
      const rows = await orm
        .select({ id: labelItems.id, flagged: labelItems.flagged, label: labelItems.label, settledAt: labelItems.settledAt, classes: labelQueues.classes })
        .from(labelItems)
        .innerJoin(labelQueues, eq(labelQueues.name, labelItems.queue))
        .where(sql`${labelItems.flagged} is not null and ${labelItems.fedBackAt} is null and ${labelItems.label} is not null`)
        .orderBy(asc(labelItems.settledAt))
        .limit(limit);
      return rows.flatMap(({ id, flagged, label, settledAt, classes }) =>
        flagged === null || label === null
          ? []
          : [{ id, flagged, label: classes.find((value) => String(value) === label) ?? label, settledAt: settledAt ?? '' }],
      );
    },

    async fedBack(ids: readonly string[]): Promise<void> {
      if (ids.length > 0)
        await orm
          .update(labelItems)
          .set({ fedBackAt: sql`now()` })
          .where(inArray(labelItems.id, [...ids]));
    },

    /** Closes what runs that have ended still ask for. */
    async closeEnded(): Promise<readonly string[]> {
      const { rows } = await orm.execute<{ id: string }>(sql`
        select r.id from label_requests r join runs on runs.id = r.run_id where r.status = 'open' and runs.status not in ('waiting', 'running')`);
      for (const { id } of rows) await orm.transaction((tx) => close(tx, id, 'cancelled'));
      return rows.map(({ id }) => id);
    },
  };
}
export type LabelsStore = ReturnType<typeof createLabelsStore>;

/** What the answers come to. Skips count for nothing, until so many people have skipped that nobody will know. */
export function outcomeOf(
  answers: readonly (string | null)[],
  { labellers, breakTies }: { readonly labellers: number; readonly breakTies: boolean },
): { readonly kind: 'settled'; readonly label: string | null } | { readonly kind: 'open'; readonly needed: number } {
  const given = answers.filter((label) => label !== null);
  const counts = new Map<string, number>();
  for (const label of given) counts.set(label, (counts.get(label) ?? 0) + 1);
  const best = Math.max(0, ...counts.values());
  const winners = [...counts].filter(([, count]) => count === best).map(([label]) => label);
  const most = labellers + (breakTies ? 1 : 0);
  if (given.length >= labellers && winners.length === 1) return { kind: 'settled', label: winners[0] ?? null };
  if (given.length >= most || answers.length - given.length >= labellers + 2) return { kind: 'settled', label: null };
  return { kind: 'open', needed: given.length >= labellers ? most : labellers };
}
