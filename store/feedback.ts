import { and, asc, eq, inArray, lt, lte, sql } from 'drizzle-orm';
import type { LabelValue } from '../contracts/labels.ts';
import type { ServingOutcomes } from '../contracts/routes.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { feedback, logReaders, servingOutcomes } from './schema.ts';

/**
 * What came of predictions.
 *
 * Invariants:
 * 1. A line of a file is taken once: the offset up to which the file was read moves in the transaction that takes the lines.
 * 2. Of one request's row and name the first value counts here; whoever says it again is counted, and changes nothing.
 * 3. A value is added to the figures of its version once: in the transaction that finds its prediction.
 */

/** One value: a label (`name` empty) or an outcome. */
export interface FeedbackValue {
  readonly requestId: string;
  readonly row: number;
  readonly name: string;
  readonly value: LabelValue;
  /** UTC ISO. */
  readonly receivedAt: string;
}

export interface WaitingFeedback extends FeedbackValue {
  readonly endpoint: string;
  readonly tries: number;
}

/** The prediction that a value is about, and what it adds to the figures of its version. */
export interface FoundPrediction {
  readonly requestId: string;
  readonly row: number;
  readonly name: string;
  readonly model: string;
  readonly version: number;
  /** UTC ISO. */
  readonly predictedAt: string;
  /** Metric → value. */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface FeedbackSummary {
  readonly endpoint: string;
  /** Values whose prediction was found. */
  readonly joined: number;
  /** Values whose prediction is being looked for. */
  readonly waiting: number;
  /** Values about requests that this endpoint did not log. */
  readonly unknown: number;
  /** Values that said again what was known. */
  readonly duplicates: number;
  readonly byName: readonly { readonly name: string; readonly joined: number; readonly waiting: number; readonly unknown: number }[];
}

const ROWS_A_STATEMENT = 2_000;
/** One source: sums of all values that were joined here. */
const SOURCE = 'feedback';

function* parts<T>(rows: readonly T[]): Generator<T[]> {
  for (let at = 0; at < rows.length; at += ROWS_A_STATEMENT) yield rows.slice(at, at + ROWS_A_STATEMENT);
}

type Sums = Omit<ServingOutcomes, 'source'>;

/** Sums a version, minute of the predictions and metric, of values that were found just now. */
function sumsOf(endpoint: string, found: readonly FoundPrediction[]): Sums[] {
  const sums = new Map<string, Sums>();
  for (const { model, version, predictedAt, metrics } of found) {
    const from = `${predictedAt.slice(0, 16)}:00.000Z`;
    for (const [metric, value] of Object.entries(metrics)) {
      const key = JSON.stringify([model, version, from, metric]);
      const before = sums.get(key);
      sums.set(key, {
        endpoint,
        model,
        version,
        from,
        metric,
        n: (before?.n ?? 0) + 1,
        sum: (before?.sum ?? 0) + value,
        sumSquares: (before?.sumSquares ?? 0) + value ** 2,
        min: Math.min(before?.min ?? value, value),
        max: Math.max(before?.max ?? value, value),
      });
    }
  }
  // in one order, so that two that add at once do not wait for each other
  return [...sums.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, of]) => of);
}

async function addSums(tx: Executor, sums: readonly Sums[]): Promise<void> {
  const { n, sum, sumSquares, min, max } = servingOutcomes;
  for (const part of parts(sums))
    await tx
      .insert(servingOutcomes)
      .values(part.map((of) => ({ ...of, source: SOURCE })))
      .onConflictDoUpdate({
        target: [
          servingOutcomes.endpoint,
          servingOutcomes.metric,
          servingOutcomes.from,
          servingOutcomes.model,
          servingOutcomes.version,
          servingOutcomes.source,
        ],
        set: {
          n: sql`${n} + excluded.n`,
          sum: sql`${sum} + excluded.sum`,
          sumSquares: sql`${sumSquares} + excluded.sum_squares`,
          min: sql`least(${min}, excluded.min)`,
          max: sql`greatest(${max}, excluded.max)`,
        },
      });
}

export function createFeedbackStore({ orm }: Database) {
  return {
    /** How far files were read, in bytes; of those that were never read, nothing. */
    async offsets(files: readonly string[]): Promise<ReadonlyMap<string, number>> {
      const found = new Map<string, number>();
      for (const part of parts(files)) {
        const rows = await orm.select({ file: logReaders.file, offsetBytes: logReaders.offsetBytes }).from(logReaders).where(inArray(logReaders.file, part));
        for (const { file, offsetBytes } of rows) found.set(file, offsetBytes);
      }
      return found;
    },

    /**
     * Notes that a file was read from one offset to another, and takes the values that stood there.
     * @returns false where the file was read further meanwhile: then nothing was taken
     */
    async take(input: {
      readonly file: string;
      readonly endpoint: string;
      readonly fromByte: number;
      readonly toByte: number;
      readonly values: readonly FeedbackValue[];
    }): Promise<boolean> {
      const { file, endpoint, fromByte, toByte } = input;
      const values = new Map(input.values.toReversed().map((value) => [JSON.stringify([value.requestId, value.row, value.name]), value]));
      return orm.transaction(async (tx) => {
        await tx.insert(logReaders).values({ file, endpoint, offsetBytes: 0 }).onConflictDoNothing();
        const reader = onlyRow(await tx.select().from(logReaders).where(eq(logReaders.file, file)).for('update'));
        if (reader.offsetBytes !== fromByte) return false;
        let taken = 0;
        for (const part of parts([...values.values()])) {
          const inserted = await tx
            .insert(feedback)
            .values(part.map(({ requestId, row, name, value, receivedAt }) => ({ endpoint, requestId, row, name, value: storable(value), receivedAt })))
            .onConflictDoNothing()
            .returning({ row: feedback.row });
          taken += inserted.length;
        }
        await tx
          .update(logReaders)
          .set({ offsetBytes: toByte, duplicates: sql`${logReaders.duplicates} + ${input.values.length - taken}`, readAt: sql`now()` })
          .where(eq(logReaders.file, file));
        return true;
      });
    },

    /** Values whose predictions are to be looked for now, the ones that wait longest first. */
    async due(limit: number): Promise<readonly WaitingFeedback[]> {
      return orm
        .select({
          endpoint: feedback.endpoint,
          requestId: feedback.requestId,
          row: feedback.row,
          name: feedback.name,
          value: feedback.value,
          receivedAt: feedback.receivedAt,
          tries: feedback.tries,
        })
        .from(feedback)
        .where(and(eq(feedback.status, 'waiting'), lte(feedback.nextTryAt, sql`now()`)))
        .orderBy(asc(feedback.nextTryAt))
        .limit(limit);
    },

    /** Notes the predictions that were found, and adds what they say to the figures; a value that was joined already stays. */
    async join(endpoint: string, found: readonly FoundPrediction[]): Promise<void> {
      for (const part of parts(found)) {
        await orm.transaction(async (tx) => {
          const given = JSON.stringify(
            part.map(({ requestId, row, name, model, version, predictedAt }) => ({ requestId, row, name, model, version, predictedAt })),
          );
          const { rows } = await tx.execute<{ requestId: string; row: number; name: string }>(sql`
            update feedback f set status = 'joined', model = g.model, version = g.version, predicted_at = g."predictedAt"
            from jsonb_to_recordset(${given}::jsonb) as g("requestId" text, "row" int, name text, model text, version int, "predictedAt" timestamptz)
            where f.endpoint = ${endpoint} and f.request_id = g."requestId" and f."row" = g."row" and f.name = g.name and f.status <> 'joined'
            returning f.request_id as "requestId", f."row", f.name`);
          const now = new Set(rows.map(({ requestId, row, name }) => JSON.stringify([requestId, row, name])));
          await addSums(
            tx,
            sumsOf(
              endpoint,
              part.filter(({ requestId, row, name }) => now.has(JSON.stringify([requestId, row, name]))),
            ),
          );
        });
      }
    },

    /** Notes values whose predictions were not found. After `waitsMs.length` tries in vain they are unknown. */
    async miss(missed: readonly WaitingFeedback[], waitsMs: readonly number[]): Promise<void> {
      for (const part of parts(missed)) {
        const given = JSON.stringify(
          part.map(({ endpoint, requestId, row, name, tries }) => ({ endpoint, requestId, row, name, tries: tries + 1, waitMs: waitsMs[tries] ?? null })),
        );
        await orm.execute(sql`
          update feedback f set tries = g.tries, status = case when g."waitMs" is null then 'unknown' else 'waiting' end,
            next_try_at = now() + make_interval(secs => coalesce(g."waitMs", 0) / 1000.0)
          from jsonb_to_recordset(${given}::jsonb) as g(endpoint text, "requestId" text, "row" int, name text, tries int, "waitMs" double precision)
          where f.endpoint = g.endpoint and f.request_id = g."requestId" and f."row" = g."row" and f.name = g.name and f.status = 'waiting'`);
      }
    },

    /** What became of the feedback of an endpoint. */
    async summary(endpoint: string): Promise<FeedbackSummary> {
      const count = (status: string) => sql`count(*) filter (where status = ${status})`.mapWith(Number);
      const byName = await orm
        .select({ name: feedback.name, joined: count('joined'), waiting: count('waiting'), unknown: count('unknown') })
        .from(feedback)
        .where(eq(feedback.endpoint, endpoint))
        .groupBy(feedback.name)
        .orderBy(asc(feedback.name));
      const { duplicates } = onlyRow(
        await orm
          .select({ duplicates: sql`coalesce(sum(${logReaders.duplicates}), 0)`.mapWith(Number) })
          .from(logReaders)
          .where(eq(logReaders.endpoint, endpoint)),
      );
      const total = (of: 'joined' | 'waiting' | 'unknown'): number => byName.reduce((sum, row) => sum + row[of], 0);
      return { endpoint, joined: total('joined'), waiting: total('waiting'), unknown: total('unknown'), duplicates, byName };
    },

    /** What is known of one request's rows. */
    async ofRequest(endpoint: string, requestId: string) {
      const { row, name, value, status, model, version, receivedAt } = feedback;
      return orm
        .select({ row, name, value, status, model, version, receivedAt })
        .from(feedback)
        .where(and(eq(feedback.endpoint, endpoint), eq(feedback.requestId, requestId)))
        .orderBy(asc(row), asc(name));
    },

    /** Forgets single values received before an instant (UTC ISO); the figures stay. */
    async forget(before: string): Promise<void> {
      await orm.delete(feedback).where(lt(feedback.receivedAt, before));
      await orm.delete(logReaders).where(lt(logReaders.readAt, before));
    },
  };
}
export type FeedbackStore = ReturnType<typeof createFeedbackStore>;
