/** Gathers a monitor's windows into the steps and findings of an endpoint's report: one after the other, in bounded memory. */
import { z } from 'zod';
import { mergeValues, type ReportFinding, type ReportMonitoring, type ReportValue, type WindowStep } from '../contracts/endpoint-report.ts';
import { METRIC_TABLE, type Metric, metricDefinition } from '../contracts/metrics.ts';
import { FindingSchema } from '../contracts/monitoring.ts';

const MOST_COLUMNS = 100;
const MOST_METRICS = 8;
const MOST_FINDINGS = 100;

/** What of a window's figures the report reads; what does not fit is as if it were not there. */
export const ShownFiguresSchema = z.object({
  rows: z.number().catch(0),
  verdict: z.string().nullable().catch(null),
  /** By column: the tests of the window's decision. */
  tests: z
    .array(z.object({ column: z.string(), exceeded: z.boolean(), tests: z.array(z.object({ effect: z.number(), threshold: z.number().nullable() })) }))
    .nullable()
    .catch(null),
  /** By column: PSI, and shares of missing values. */
  columns: z
    .array(z.object({ column: z.string(), psi: z.number(), nulls: z.object({ training: z.number(), recent: z.number() }).nullable().catch(null) }))
    .nullable()
    .catch(null),
  limit: z.number().nullable().catch(null),
  labelled: z.number().nullable().catch(null),
  quality: z.record(z.string(), z.number()).nullable().catch(null),
  intervals: z
    .record(z.string(), z.object({ low: z.number(), high: z.number() }))
    .nullable()
    .catch(null),
  estimated: z
    .record(z.string(), z.object({ value: z.number(), low: z.number(), high: z.number() }))
    .nullable()
    .catch(null),
  estimatedRows: z.number().nullable().catch(null),
  outcomes: z
    .record(z.string(), z.object({ mean: z.number(), low: z.number().nullable(), high: z.number().nullable(), rows: z.number() }))
    .nullable()
    .catch(null),
  data: z
    .array(z.object({ column: z.string().nullable(), kind: z.string(), success: z.boolean(), fraction: z.number().nullable() }))
    .nullable()
    .catch(null),
  findings: z.array(FindingSchema).nullable().catch(null),
});
type ShownFigures = z.output<typeof ShownFiguresSchema>;

export interface ShownWindow {
  readonly from: string;
  readonly to: string;
  readonly figures: ShownFigures;
}

/** Limit and figure are compared where both are known; a decision that needs no limit is just on its side of it. */
const JUST_ABOVE = 1.001;
const UNREACHED = 0.49;

/** How far each column is, as a multiple of its limit. A fixed limit of PSI goes before the tests. */
function strengths({ tests, columns, limit }: ShownFigures, fixedPsi: number | null): Map<string, number> {
  const psi = limit ?? fixedPsi;
  if (psi !== null && psi > 0 && columns !== null) return new Map(columns.map(({ column, psi: found }) => [column, found / psi]));
  return new Map(
    (tests ?? []).map(({ column, exceeded, tests: made }) => {
      const ratios = made.map(({ effect, threshold }) =>
        threshold === null ? UNREACHED : threshold <= 0 ? (effect > threshold ? JUST_ABOVE : 0) : Math.max(0, effect / threshold),
      );
      const most = ratios.length === 0 ? 0 : Math.max(...ratios);
      return [column === '*' ? 'all together' : column, exceeded ? Math.max(JUST_ABOVE, most) : Math.min(1, most)];
    }),
  );
}

/** Shares of rows that fail, by expectation; and by how much more often than in training a column is missing. */
function failures({ data, columns }: ShownFigures): Map<string, number> {
  const found = new Map<string, number>();
  for (const { column, kind, success, fraction } of data ?? []) {
    const name = column === null ? kind : `${column}: ${kind}`;
    found.set(name, Math.max(found.get(name) ?? 0, fraction ?? (success ? 0 : 1)));
  }
  for (const { column, nulls } of columns ?? []) if (nulls !== null) found.set(`${column}: missing`, Math.max(0, nulls.recent - nulls.training));
  return found;
}

interface Group {
  readonly from: string;
  to: string;
  windows: number;
  rows: number;
  labelled: number;
  readonly drift: Map<string, number>;
  readonly failing: Map<string, number>;
  readonly byLabels: Map<string, ReportValue[]>;
  readonly estimated: Map<string, ReportValue[]>;
}

const raise = (into: Map<string, number>, from: ReadonlyMap<string, number>): void => {
  for (const [name, value] of from) into.set(name, Math.max(into.get(name) ?? Number.NEGATIVE_INFINITY, value));
};
const collect = (into: Map<string, ReportValue[]>, name: string, value: ReportValue): void => {
  into.set(name, [...(into.get(name) ?? []), value]);
};

/** The greatest value of each name over all groups, greatest first. */
function ranked(groups: readonly Group[], of: (group: Group) => ReadonlyMap<string, number>): readonly (readonly [string, number])[] {
  const all = new Map<string, number>();
  for (const group of groups) raise(all, of(group));
  return [...all].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
}

const metricPlace = (name: string): number => {
  const place = Object.keys(METRIC_TABLE).indexOf(name);
  const outcome = Object.keys(METRIC_TABLE).length;
  return place < 0 ? outcome : METRIC_TABLE[name as Metric].headline === true ? place : outcome + 1 + place;
};

export interface GatherOptions {
  readonly endpoint: string;
  /** Windows in the report's time: known before they are read. */
  readonly windows: number;
  readonly mostSteps: number;
  /** A PSI above which a column counts as drifted, where the monitor says so. */
  readonly fixedPsi: number | null;
  /** What metrics were when the version was judged. */
  readonly reference: Readonly<Record<string, number>>;
}

/** Takes windows in order of time; `done` gives what became of them. */
export function gatherWindows({ endpoint, windows, mostSteps, fixedPsi, reference }: GatherOptions) {
  const each = Math.max(1, Math.ceil(windows / mostSteps));
  const groups: Group[] = [];
  const findings = new Map<string, Omit<ReportFinding, 'state'> & { isFiring: boolean; hasFired: boolean }>();
  let newest: string | null = null;
  let taken = 0;

  return {
    add({ from, to, figures }: ShownWindow): void {
      if (taken % each === 0)
        groups.push({ from, to, windows: 0, rows: 0, labelled: 0, drift: new Map(), failing: new Map(), byLabels: new Map(), estimated: new Map() });
      taken += 1;
      const group = groups.at(-1);
      if (group === undefined) return;
      group.to = to > group.to ? to : group.to;
      group.windows += 1;
      group.rows += figures.rows;
      group.labelled += figures.labelled ?? 0;
      raise(group.drift, strengths(figures, fixedPsi));
      raise(group.failing, failures(figures));
      for (const [name, value] of Object.entries(figures.quality ?? {})) {
        const interval = figures.intervals?.[name];
        collect(group.byLabels, name, { value, low: interval?.low ?? null, high: interval?.high ?? null, rows: figures.labelled ?? 0 });
      }
      for (const [name, value] of Object.entries(figures.estimated ?? {}))
        collect(group.estimated, name, { value: value.value, low: value.low, high: value.high, rows: figures.estimatedRows ?? figures.rows });
      for (const [name, { mean, low, high, rows }] of Object.entries(figures.outcomes ?? {}))
        collect(group.byLabels, `outcome ${name}`, { value: mean, low, high, rows });
      // a window that decided nothing ends no trouble
      if (figures.verdict !== 'too few rows' || (figures.findings ?? []).length > 0) newest = to;
      for (const { check, subject, what, since, windowsInARow, against, sure, firing } of figures.findings ?? []) {
        const key = JSON.stringify([check, subject, since]);
        findings.set(key, {
          what,
          check,
          subject,
          since,
          until: to,
          windows: windowsInARow,
          against,
          sure,
          command: `millrace endpoints report ${endpoint} --from ${since} --to ${to}`,
          isFiring: firing,
          hasFired: firing || findings.get(key)?.hasFired === true,
        });
      }
    },

    done(): { readonly monitoring: ReportMonitoring; readonly findings: readonly ReportFinding[]; readonly findingsLeftOut: number } {
      const drift = ranked(groups, (group) => group.drift);
      const failing = ranked(groups, (group) => group.failing).filter(([, value]) => value > 0);
      const measured = [...new Set(groups.flatMap((group) => [...group.byLabels.keys(), ...group.estimated.keys()]))].sort(
        (a, b) => metricPlace(a) - metricPlace(b) || (a < b ? -1 : 1),
      );
      const [columns, expectations, metrics] = [drift.slice(0, MOST_COLUMNS), failing.slice(0, MOST_COLUMNS), measured.slice(0, MOST_METRICS)];
      const steps = groups.map((group): WindowStep => {
        const values = (of: ReadonlyMap<string, readonly ReportValue[]>) => metrics.map((name) => mergeValues(of.get(name) ?? []));
        return {
          from: group.from,
          to: group.to,
          windows: group.windows,
          rows: group.rows,
          labelled: group.labelled,
          drift: columns.map(([name]) => group.drift.get(name) ?? null),
          labelledQuality: values(group.byLabels),
          estimatedQuality: values(group.estimated),
          failing: expectations.map(([name]) => group.failing.get(name) ?? null),
        };
      });
      const order = { open: 0, over: 1, noticed: 2 } as const;
      const all = [...findings.values()]
        .map(
          ({ isFiring, hasFired, ...finding }): ReportFinding => ({
            ...finding,
            state: !hasFired ? 'noticed' : isFiring && finding.until === newest ? 'open' : 'over',
          }),
        )
        .sort((a, b) => order[a.state] - order[b.state] || (a.since < b.since ? 1 : a.since > b.since ? -1 : 0));
      return {
        monitoring: {
          windows: taken,
          windowsAStep: each,
          drift: columns.map(([name]) => name),
          driftLeftOut: drift.length - columns.length,
          metrics: metrics.map((name) => ({ name, better: metricDefinition(name)?.better ?? null, reference: reference[name] ?? null })),
          metricsLeftOut: measured.length - metrics.length,
          dataQuality: expectations.map(([name]) => name),
          dataQualityLeftOut: failing.length - expectations.length,
          steps,
        },
        findings: all.slice(0, MOST_FINDINGS),
        findingsLeftOut: Math.max(0, all.length - MOST_FINDINGS),
      };
    },
  };
}
