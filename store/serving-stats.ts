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
