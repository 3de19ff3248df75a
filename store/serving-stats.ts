import { type AnyColumn, and, asc, eq, gte, inArray, lt, sql } from 'drizzle-orm';
import type { ServingFigures } from '../contracts/model-comparison.ts';
import type { ChallengerBreak, ServingOutcomes, ServingStats } from '../contracts/routes.ts';
import { addBinCounts, latencyPercentileMs } from '../contracts/serving-bins.ts';
import { type Database, onlyRow, storable } from './database.ts';
import { challengerBreaks, servingOutcomes, servingStats } from './schema.ts';

/** Figures of what was served, and what became known of it: added by prediction servers, read by guards. */
export interface StatsSum {
  readonly requests: number;
  readonly errors: number;
  readonly latencyMsSum: number;
  /** 0 without requests. */
  readonly latencyMsMean: number;
  readonly latencyMsMax: number;
}

/** Sums over sources: what is known of a version's predictions of one minute. */
export type OutcomeSum = Omit<ServingOutcomes, 'source' | 'endpoint'>;

/** Sums of bigint come as text, and are null without rows. */
const total = (column: AnyColumn) => sql`coalesce(sum(${column}), 0)`.mapWith(Number);
const excluded = (column: string) => sql.raw(`excluded."${column}"`);
/** Postgres takes 65,535 values in a statement. */
const ROWS_A_STATEMENT = 2_000;
const HOUR_MS = 3_600_000;
/** Any number, the same in every process: who folds holds it, so that nobody else does. */
const FOLD_LOCK = 7_106_541;

type Interval = typeof servingStats.$inferSelect;

/** Intervals of one server and version as one that starts at `from`. */
function sumOf(intervals: readonly [Interval, ...Interval[]], from: string): Interval {
  const sum = (of: (interval: Interval) => number): number => intervals.reduce((total, interval) => total + of(interval), 0);
  return {
    ...intervals[0],
    from,
    requests: sum((i) => i.requests),
    errors: sum((i) => i.errors),
    latencyMsSum: sum((i) => i.latencyMsSum),
    latencyMsMax: intervals.reduce((greatest, i) => Math.max(greatest, i.latencyMsMax), 0),
    latency: addBinCounts(intervals.map((i) => i.latency)),
    labels: addBinCounts(intervals.map((i) => i.labels)),
    outputs: addBinCounts(intervals.map((i) => i.outputs)),
    compared: sum((i) => i.compared),
    equal: sum((i) => i.equal),
  };
}

function* parts<T>(rows: readonly T[]): Generator<T[]> {
  for (let i = 0; i < rows.length; i += ROWS_A_STATEMENT) yield rows.slice(i, i + ROWS_A_STATEMENT);
}

export function createServingStatsStore({ orm }: Database) {
  return {
    /** Records intervals. A server sends each interval when it is over; sending it again replaces it, so that a retry counts once. */
    async add(stats: readonly ServingStats[]): Promise<void> {
      for (const part of parts(stats)) {
        await orm
          .insert(servingStats)
          .values(part.map((s) => ({ ...s, latency: storable(s.latency ?? []), labels: storable(s.labels ?? []), outputs: storable(s.outputs ?? []) })))
          .onConflictDoUpdate({
            target: [servingStats.endpoint, servingStats.model, servingStats.version, servingStats.from, servingStats.server],
            set: {
              requests: excluded('requests'),
              errors: excluded('errors'),
              latencyMsSum: excluded('latency_ms_sum'),
              latencyMsMax: excluded('latency_ms_max'),
              latency: excluded('latency'),
              labels: excluded('labels'),
              outputs: excluded('outputs'),
              compared: excluded('compared'),
              equal: excluded('equal'),
            },
          });
      }
    },

    /** The sum over all servers of the intervals that start at `from` or later, and before `to` when it is given. UTC ISO. */
    async read(input: {
      readonly endpoint: string;
      readonly model: string;
      readonly version: number;
      readonly from: string;
      readonly to?: string;
    }): Promise<StatsSum> {
      const row = onlyRow(
        await orm
          .select({
            requests: total(servingStats.requests),
            errors: total(servingStats.errors),
            latencyMsSum: total(servingStats.latencyMsSum),
            latencyMsMax: sql`coalesce(max(${servingStats.latencyMsMax}), 0)`.mapWith(Number),
          })
          .from(servingStats)
          .where(
            and(
              eq(servingStats.endpoint, input.endpoint),
              eq(servingStats.model, input.model),
              eq(servingStats.version, input.version),
              gte(servingStats.from, input.from),
              input.to === undefined ? undefined : lt(servingStats.from, input.to),
            ),
          ),
      );
      return { ...row, latencyMsMean: row.requests === 0 ? 0 : row.latencyMsSum / row.requests };
    },

    /** What servers measured of a version, over all endpoints and times; null where none answered with it. */
    async ofVersion(model: string, version: number): Promise<ServingFigures | null> {
      const found = await orm
        .select({ requests: servingStats.requests, errors: servingStats.errors, latencyMsSum: servingStats.latencyMsSum, latency: servingStats.latency })
        .from(servingStats)
        .where(and(eq(servingStats.model, model), eq(servingStats.version, version)));
      const requests = found.reduce((sum, row) => sum + row.requests, 0);
      if (requests === 0) return null;
      const latency = addBinCounts(found.map((row) => row.latency));
      return {
        requests,
        errors: found.reduce((sum, row) => sum + row.errors, 0),
        meanMs: found.reduce((sum, row) => sum + row.latencyMsSum, 0) / requests,
        p50Ms: latencyPercentileMs(latency, 0.5),
        p99Ms: latencyPercentileMs(latency, 0.99),
      };
    },

    /** Every interval of every server and version of an endpoint that starts at `from` (UTC ISO) or later, in order of time, then server. */
    async intervals(input: { readonly endpoint: string; readonly from: string }): Promise<Required<ServingStats>[]> {
      return orm
        .select()
        .from(servingStats)
        .where(and(eq(servingStats.endpoint, input.endpoint), gte(servingStats.from, input.from)))
        .orderBy(asc(servingStats.from), asc(servingStats.server), asc(servingStats.model), asc(servingStats.version));
    },

    /** Records what became known. The same source, metric, version and minute again replaces what was said. */
    async addOutcomes(outcomes: readonly ServingOutcomes[]): Promise<void> {
      for (const part of parts(outcomes)) {
        await orm
          .insert(servingOutcomes)
          .values(part)
          .onConflictDoUpdate({
            target: [
              servingOutcomes.endpoint,
              servingOutcomes.metric,
              servingOutcomes.from,
              servingOutcomes.model,
              servingOutcomes.version,
              servingOutcomes.source,
            ],
            set: { n: excluded('n'), sum: excluded('sum'), sumSquares: excluded('sum_squares'), min: excluded('min'), max: excluded('max') },
          });
      }
    },

    /** What is known of the predictions made at `from` (UTC ISO) or later, by version, minute and metric, in order of time. */
    async outcomes(input: { readonly endpoint: string; readonly metrics: readonly string[]; readonly from: string }): Promise<OutcomeSum[]> {
      if (input.metrics.length === 0) return [];
      const { model, version, from, metric } = servingOutcomes;
      return orm
        .select({
          model,
          version,
          from,
          metric,
          n: total(servingOutcomes.n),
          sum: total(servingOutcomes.sum),
          sumSquares: total(servingOutcomes.sumSquares),
          min: sql`min(${servingOutcomes.min})`.mapWith(Number),
          max: sql`max(${servingOutcomes.max})`.mapWith(Number),
        })
        .from(servingOutcomes)
        .where(and(eq(servingOutcomes.endpoint, input.endpoint), inArray(metric, [...input.metrics]), gte(from, input.from)))
        .groupBy(model, version, from, metric)
        .orderBy(asc(metric), asc(from), asc(model), asc(version));
    },

    /**
     * Adds intervals before an instant (UTC ISO) up to hours, with their bins: a second's figures are for guards. What a rollout that
     * is under way, or whose soak is, may still read stays as it is.
     * @returns how many rows became fewer
     */
    async fold(before: string): Promise<number> {
      const { rows: hours } = await orm.execute<{ endpoint: string; hour: string }>(sql`
        select distinct s.endpoint, floor(extract(epoch from s."from") / 3600)::bigint as hour from serving_stats s
        where s."from" < ${before} and mod(extract(epoch from s."from"), 3600) <> 0 and not exists (
          select from rollouts r where r.endpoint = s.endpoint and coalesce(r.started_at, r.created_at) < s."from" + interval '1 hour'
          and (r.ended_at is null or r.ended_at + make_interval(secs => coalesce(
            (r.strategy->>'soakMs')::float8, (r.strategy->'next'->>'soakMs')::float8, 0) / 1000) > now()))`);
      let fewer = 0;
      for (const { endpoint, hour } of hours) {
        const [from, to] = [Number(hour) * HOUR_MS, (Number(hour) + 1) * HOUR_MS].map((ms) => new Date(ms).toISOString()) as [string, string];
        fewer += await orm.transaction(async (tx) => {
          const { rows } = await tx.execute<{ own: boolean }>(sql`select pg_try_advisory_xact_lock(${FOLD_LOCK}) as own`);
          if (rows[0]?.own !== true) return 0;
          const within = and(eq(servingStats.endpoint, endpoint), gte(servingStats.from, from), lt(servingStats.from, to));
          const intervals = await tx.delete(servingStats).where(within).returning();
          const groups = new Map<string, [Interval, ...Interval[]]>();
          for (const interval of intervals) {
            const key = `${interval.server} ${String(interval.version)} ${interval.model}`;
            const group = groups.get(key);
            if (group === undefined) groups.set(key, [interval]);
            else group.push(interval);
          }
          const folded = [...groups.values()].map((group) => sumOf(group, from));
          for (const part of parts(folded)) await tx.insert(servingStats).values(part);
          return intervals.length - folded.length;
        });
      }
      return fewer;
    },

    /** Forgets figures, outcomes and notes of the time before an instant (UTC ISO). */
    async forget(before: string): Promise<void> {
      await orm.delete(servingStats).where(lt(servingStats.from, before));
      await orm.delete(servingOutcomes).where(lt(servingOutcomes.from, before));
      await orm.delete(challengerBreaks).where(lt(challengerBreaks.at, before));
    },

    /** Notes that a server took a challenger's traffic back by itself; once a server and epoch. */
    async addBreak(broken: ChallengerBreak): Promise<void> {
      await orm.insert(challengerBreaks).values(broken).onConflictDoNothing();
    },

    /** The notes of a challenger at an endpoint from an epoch on, the first first. */
    async breaks(input: {
      readonly endpoint: string;
      readonly model: string;
      readonly version: number;
      readonly fromEpoch: number;
    }): Promise<ChallengerBreak[]> {
      return orm
        .select()
        .from(challengerBreaks)
        .where(
          and(
            eq(challengerBreaks.endpoint, input.endpoint),
            eq(challengerBreaks.model, input.model),
            eq(challengerBreaks.version, input.version),
            gte(challengerBreaks.epoch, input.fromEpoch),
          ),
        )
        .orderBy(asc(challengerBreaks.at), asc(challengerBreaks.server));
    },
  };
}
export type ServingStatsStore = ReturnType<typeof createServingStatsStore>;
