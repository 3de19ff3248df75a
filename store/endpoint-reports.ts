import { and, asc, count, desc, eq, gt, gte, inArray, lt, lte, max, min, or, sql } from 'drizzle-orm';
import { z } from 'zod';
import type { EndpointReport, ReportEvent, ReportServed, TrafficStep } from '../contracts/endpoint-report.ts';
import { MillraceError } from '../contracts/errors.ts';
import { addBinCounts, latencyPercentileMs } from '../contracts/serving-bins.ts';
import type { Database } from './database.ts';
import { gatherWindows, ShownFiguresSchema } from './endpoint-report-windows.ts';
import { endpoints, monitors, monitorWindows, raisedAlerts, retrainings, rollouts, routeHistory, runs, servingStats, versions } from './schema.ts';

/** Drawn beside each other at most. */
const MOST_STEPS = 240;
const MOST_PERIODS = 500;
/** Of each kind. */
const MOST_EVENTS = 300;
const WINDOWS_A_READ = 200;
const DEFAULT_SPAN_MS = 30 * 86_400_000;
const MINUTE_MS = 60_000;
/** Round lengths of a step, in minutes. */
const STEP_MINUTES = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880, 10_080, 20_160, 43_200, 129_600, 525_600];

/** Of the time shown, the least round step of which there are not too many. */
const stepOf = (spanMs: number): number => MINUTE_MS * (STEP_MINUTES.find((minutes) => minutes * MINUTE_MS * MOST_STEPS >= spanMs) ?? 5_256_000);

const iso = (ms: number): string => new Date(ms).toISOString();

/** What a monitor's options say of a fixed limit, if they do. */
const FixedPsiSchema = z.object({
  psi: z.number().optional().catch(undefined),
  drift: z.object({ psi: z.number() }).optional().catch(undefined),
});
const MonitorConfigSchema = z.object({ retrainOn: FixedPsiSchema.optional().catch(undefined), alertOn: FixedPsiSchema.optional().catch(undefined) });
function fixedPsiOf(config: unknown): number | null {
  const { retrainOn, alertOn } = MonitorConfigSchema.catch({}).parse(config);
  return retrainOn?.psi ?? retrainOn?.drift?.psi ?? alertOn?.psi ?? alertOn?.drift?.psi ?? null;
}

/** Of a window's figures what the report shows: the bins of all columns would be megabytes. */
const shownFigures = sql<unknown>`jsonb_build_object(
  'rows', ${monitorWindows.figures}->'rows',
  'verdict', ${monitorWindows.figures}->'verdict',
  'tests', ${monitorWindows.figures}->'decision'->'columns',
  'columns', (
    select jsonb_agg(jsonb_build_object('column', c->'column', 'psi', c->'psi', 'nulls', c->'nullFraction'))
    from jsonb_array_elements(case jsonb_typeof(coalesce(${monitorWindows.figures}->'drift'->'columns', ${monitorWindows.figures}->'columns'))
      when 'array' then coalesce(${monitorWindows.figures}->'drift'->'columns', ${monitorWindows.figures}->'columns') else '[]' end) c),
  'limit', ${monitorWindows.figures}->'limit',
  'labelled', ${monitorWindows.figures}->'quality'->'labelled',
  'quality', ${monitorWindows.figures}->'quality'->'metrics',
  'intervals', ${monitorWindows.figures}->'quality'->'intervals',
  'estimated', ${monitorWindows.figures}->'estimated'->'metrics',
  'estimatedRows', ${monitorWindows.figures}->'estimated'->'rows',
  'outcomes', ${monitorWindows.figures}->'outcomes',
  'data', (
    select jsonb_agg(jsonb_build_object('column', r->'column', 'kind', r->'expectation'->'kind', 'success', r->'success', 'fraction', r->'fraction'))
    from jsonb_array_elements(case jsonb_typeof(${monitorWindows.figures}->'data'->'results') when 'array' then ${monitorWindows.figures}->'data'->'results' else '[]' end) r),
  'findings', ${monitorWindows.figures}->'findings')`;

function grouped<Row, Key>(rows: readonly Row[], keyOf: (row: Row) => Key): Map<Key, Row[]> {
  const groups = new Map<Key, Row[]>();
  for (const row of rows) {
    const [key, group] = [keyOf(row), groups.get(keyOf(row))];
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  return groups;
}

export interface EndpointReportInput {
  readonly endpoint: string;
  /** UTC ISO. Default: 30 days before `to`, or when the endpoint was first heard of in that time. */
  readonly from?: string;
  /** UTC ISO. Default: now. */
  readonly to?: string;
}

interface Range {
  readonly endpoint: string;
  readonly from: string;
  readonly to: string;
}

/** Everything that an endpoint's report shows, read from the records. */
export function createEndpointReportsStore({ orm }: Database) {
  async function rangeOf({ endpoint, from, to }: EndpointReportInput): Promise<Range> {
    const end = to ?? iso(Date.now());
    if (from !== undefined) return { endpoint, from, to: end };
    const start = iso(Date.parse(end) - DEFAULT_SPAN_MS);
    const [[window], [stat], [route]] = await Promise.all([
      orm
        .select({ first: min(monitorWindows.from) })
        .from(monitorWindows)
        .where(and(eq(monitorWindows.endpoint, endpoint), gte(monitorWindows.from, start), lt(monitorWindows.from, end))),
      orm
        .select({ first: min(servingStats.from) })
        .from(servingStats)
        .where(and(eq(servingStats.endpoint, endpoint), gte(servingStats.from, start), lt(servingStats.from, end))),
      orm
        .select({ first: min(routeHistory.at) })
        .from(routeHistory)
        .where(and(eq(routeHistory.endpoint, endpoint), lt(routeHistory.at, end))),
    ]);
    const known = [window?.first, stat?.first, route?.first].flatMap((first) => first ?? []);
    const first = known.length === 0 ? start : known.reduce((a, b) => (a < b ? a : b));
    return { endpoint, from: first > start ? first : start, to: end };
  }

  async function served({ endpoint, from, to }: Range): Promise<readonly ReportServed[]> {
    const changes = await orm
      .select()
      .from(routeHistory)
      .where(and(eq(routeHistory.endpoint, endpoint), lt(routeHistory.at, to)))
      .orderBy(desc(routeHistory.epoch))
      .limit(MOST_PERIODS);
    return changes
      .toReversed()
      .map(
        ({ at, champion, challenger, by, reason }, place, all): ReportServed => ({
          from: at,
          until: all[place + 1]?.at ?? null,
          champion: champion && { model: champion.model, version: champion.version },
          challenger: challenger && {
            model: challenger.version.model,
            version: challenger.version.version,
            percent: challenger.percent,
            mode: challenger.mode ?? 'share',
          },
          by,
          reason,
        }),
      )
      .filter(({ until }) => until === null || until > from);
  }

  async function traffic({ endpoint, from, to }: Range): Promise<EndpointReport['traffic']> {
    const stepMs = stepOf(Date.parse(to) - Date.parse(from));
    const slot = sql<string>`floor(extract(epoch from ${servingStats.from}) * 1000 / ${stepMs}::bigint)::bigint`;
    const inRange = and(eq(servingStats.endpoint, endpoint), gte(servingStats.from, from), lt(servingStats.from, to));
    const [sums, { rows: bins }] = await Promise.all([
      orm
        .select({
          slot: slot.mapWith(Number).as('slot'),
          model: servingStats.model,
          version: servingStats.version,
          requests: sql`sum(${servingStats.requests})`.mapWith(Number),
          errors: sql`sum(${servingStats.errors})`.mapWith(Number),
        })
        .from(servingStats)
        .where(inRange)
        .groupBy(sql`1`, servingStats.model, servingStats.version)
        .orderBy(sql`1`, asc(servingStats.model), asc(servingStats.version)),
      orm.execute<{ slot: string; bin: string; n: string }>(sql`
        select ${slot} as slot, (${servingStats.latency}->>(2 * place))::bigint as bin, sum((${servingStats.latency}->>(2 * place + 1))::bigint) as n
        from ${servingStats}, generate_series(0, jsonb_array_length(${servingStats.latency}) / 2 - 1) place
        where ${inRange} group by 1, 2`),
    ]);
    const latencies = grouped(bins, (row) => Number(row.slot));
    const steps = [...grouped(sums, (row) => row.slot)].flatMap(([at, rows]): TrafficStep[] => {
      const found = rows.filter(({ requests }) => requests > 0);
      if (found.length === 0) return [];
      const counts = addBinCounts((latencies.get(at) ?? []).map(({ bin, n }) => [Number(bin), Number(n)]));
      const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => latencyPercentileMs(counts, share));
      return [
        {
          from: iso(at * stepMs),
          versions: found.map(({ model, version, requests, errors }) => ({ model, version, requests, errors })),
          latencyMs: p50 == null || p95 == null || p99 == null ? null : { p50, p95, p99 },
        },
      ];
    });
    return { stepMs, steps };
  }

  async function pipelinesOf(endpoint: string): Promise<readonly string[]> {
    const found = await orm
      .selectDistinct({ pipeline: runs.pipeline })
      .from(runs)
      .where(
        or(
          inArray(
            runs.id,
            orm
              .select({ id: sql<string>`${routeHistory.runId}` })
              .from(routeHistory)
              .where(eq(routeHistory.endpoint, endpoint)),
          ),
          inArray(
            runs.id,
            orm
              .select({ id: sql<string>`${rollouts.runId}` })
              .from(rollouts)
              .where(eq(rollouts.endpoint, endpoint)),
          ),
          inArray(
            runs.id,
            orm
              .select({ id: sql<string>`${monitors.runId}` })
              .from(monitors)
              .where(eq(monitors.endpoint, endpoint)),
          ),
        ),
      )
      .orderBy(asc(runs.pipeline));
    return found.map(({ pipeline }) => pipeline);
  }

  async function events({ endpoint, from, to }: Range, pipelines: readonly string[]): Promise<Pick<EndpointReport, 'events' | 'eventsLeftOut'>> {
    const ofPipelines = pipelines.length === 0 ? sql`false` : inArray(retrainings.pipeline, [...pipelines]);
    const [brought, retrained, alerted] = await Promise.all([
      orm
        .select()
        .from(rollouts)
        .where(and(eq(rollouts.endpoint, endpoint), gte(rollouts.createdAt, from), lt(rollouts.createdAt, to)))
        .orderBy(desc(rollouts.seq))
        .limit(MOST_EVENTS + 1),
      orm
        .select()
        .from(retrainings)
        .where(and(ofPipelines, gte(retrainings.at, from), lt(retrainings.at, to)))
        .orderBy(desc(retrainings.id))
        .limit(MOST_EVENTS + 1),
      orm
        .select()
        .from(raisedAlerts)
        .where(
          and(
            eq(raisedAlerts.endpoint, endpoint),
            lte(raisedAlerts.since, to),
            or(sql`${raisedAlerts.resolvedAt} is null`, gte(raisedAlerts.resolvedAt, from)),
          ),
        )
        .orderBy(desc(raisedAlerts.id))
        .limit(MOST_EVENTS + 1),
    ]);
    const kept: readonly (readonly ReportEvent[])[] = [
      brought.map(({ createdAt, startedAt, endedAt, model, version, status, reason }) => ({
        kind: 'rollout',
        at: startedAt ?? createdAt,
        until: endedAt,
        what: `${model} ${String(version)}${reason === null ? '' : `: ${reason}`}`,
        state: status,
        command: null,
      })),
      retrained.map(({ at, settledAt, pipeline, reason, because, fate, runId }) => ({
        kind: 'retraining',
        at,
        until: settledAt,
        what: `${pipeline}: ${reason} (${because})`,
        state: fate,
        command: runId === null ? null : `millrace runs show ${runId.slice(0, 12)}`,
      })),
      alerted.map(({ since, resolvedAt, what, status, command }) => ({ kind: 'alert', at: since, until: resolvedAt, what, state: status, command })),
    ];
    const left = kept.flatMap((of) => (of.length > MOST_EVENTS && of[0] !== undefined ? [[of[0].kind, of.length - MOST_EVENTS] as const] : []));
    return {
      events: kept.flatMap((of) => of.slice(0, MOST_EVENTS)).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0)),
      eventsLeftOut: Object.fromEntries(left),
    };
  }

  async function monitoring({ endpoint, from, to }: Range, config: unknown, champion: ReportServed['champion']) {
    const inRange = and(eq(monitorWindows.endpoint, endpoint), gt(monitorWindows.to, from), lt(monitorWindows.from, to));
    const [[counted], [judged]] = await Promise.all([
      orm.select({ windows: count() }).from(monitorWindows).where(inRange),
      champion === null
        ? []
        : orm
            .select({ metrics: versions.metrics })
            .from(versions)
            .where(and(eq(versions.model, champion.model), eq(versions.version, champion.version))),
    ]);
    const gathered = gatherWindows({
      endpoint,
      windows: counted?.windows ?? 0,
      mostSteps: MOST_STEPS,
      fixedPsi: fixedPsiOf(config),
      reference: judged?.metrics ?? {},
    });
    let last: { readonly from: string; readonly to: string } | undefined;
    for (;;) {
      const after = last && sql`(${monitorWindows.from}, ${monitorWindows.to}) > (${last.from}::timestamptz, ${last.to}::timestamptz)`;
      const rows = await orm
        .select({ from: monitorWindows.from, to: monitorWindows.to, figures: shownFigures })
        .from(monitorWindows)
        .where(and(inRange, after))
        .orderBy(asc(monitorWindows.from), asc(monitorWindows.to))
        .limit(WINDOWS_A_READ);
      for (const row of rows) gathered.add({ from: row.from, to: row.to, figures: ShownFiguresSchema.parse(row.figures) });
      last = rows.at(-1);
      if (rows.length < WINDOWS_A_READ) return gathered.done();
    }
  }

  return {
    /**
     * What became known of an endpoint between two instants, in at most 240 steps of time.
     * @throws ENDPOINT_NOT_FOUND, INVALID_REQUEST when `from` is not before `to`
     */
    async read(input: EndpointReportInput): Promise<EndpointReport> {
      const { endpoint } = input;
      const [[known], [monitor], [newest]] = await Promise.all([
        orm.select().from(endpoints).where(eq(endpoints.name, endpoint)),
        orm.select().from(monitors).where(eq(monitors.endpoint, endpoint)),
        orm
          .select({ to: max(monitorWindows.to) })
          .from(monitorWindows)
          .where(eq(monitorWindows.endpoint, endpoint)),
      ]);
      if (known === undefined) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${endpoint}.`);
      const range = await rangeOf(input);
      if (!(Date.parse(range.from) < Date.parse(range.to)))
        throw new MillraceError('INVALID_REQUEST', `From ${range.from} to ${range.to} is no time.`, { fix: 'Give a beginning that is before the end.' });
      const [periods, requests, pipelines] = await Promise.all([served(range), traffic(range), pipelinesOf(endpoint)]);
      const [happened, gathered] = await Promise.all([events(range, pipelines), monitoring(range, monitor?.config, periods.at(-1)?.champion ?? null)]);
      return {
        ...range,
        pipelines,
        isMonitored: monitor !== undefined,
        newestWindow: newest?.to ?? null,
        served: periods,
        traffic: requests,
        ...gathered,
        ...happened,
      };
    },
  };
}
export type EndpointReportsStore = ReturnType<typeof createEndpointReportsStore>;
