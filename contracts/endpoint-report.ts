/**
 * What an endpoint's report shows: everything that became known of it in one stretch of time, in so many steps at most.
 * Times are UTC ISO.
 */
export interface EndpointReport {
  readonly endpoint: string;
  readonly from: string;
  readonly to: string;
  /** Pipelines whose runs brought versions into service here: theirs are the retrainings. */
  readonly pipelines: readonly string[];
  /** Whether the endpoint has a monitor at all. */
  readonly isMonitored: boolean;
  /** The end of the newest window of all, whatever is shown; null where there is none. */
  readonly newestWindow: string | null;
  /** What served, the first first. */
  readonly served: readonly ReportServed[];
  readonly traffic: {
    readonly stepMs: number;
    /** Steps with requests, in order of time. */
    readonly steps: readonly TrafficStep[];
  };
  readonly monitoring: ReportMonitoring;
  /** Rollouts, retrainings and alerts, in order of time. */
  readonly events: readonly ReportEvent[];
  /** Of each kind, how many older ones had no room. */
  readonly eventsLeftOut: Readonly<Partial<Record<ReportEvent['kind'], number>>>;
  /** What the monitor found, what is worst first: findings of the same thing in windows that follow each other are one. */
  readonly findings: readonly ReportFinding[];
  readonly findingsLeftOut: number;
}

export interface ReportVersion {
  readonly model: string;
  readonly version: number;
}

/** Who answered in a stretch of time. */
export interface ReportServed {
  readonly from: string;
  /** Null: still. */
  readonly until: string | null;
  readonly champion: ReportVersion | null;
  readonly challenger: (ReportVersion & { readonly percent: number; readonly mode: 'share' | 'shadow' }) | null;
  readonly by: string | null;
  readonly reason: string | null;
}

export interface TrafficStep {
  readonly from: string;
  readonly versions: readonly (ReportVersion & { readonly requests: number; readonly errors: number })[];
  /** Of all versions together; null without requests that were timed. */
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
}

/**
 * Windows of the monitor in order of time. Where there are more windows than steps, a step stands for several: of drift and
 * of data that fails it has the worst, of quality the mean weighted by rows between the lowest and the highest end of the
 * intervals.
 */
export interface ReportMonitoring {
  readonly windows: number;
  /** Windows that one step stands for, at most. */
  readonly windowsAStep: number;
  /** What is watched for drift, the most drifted first: features and `output`. */
  readonly drift: readonly string[];
  /** Columns that drifted less and had no room. */
  readonly driftLeftOut: number;
  readonly metrics: readonly ReportMetric[];
  readonly metricsLeftOut: number;
  /** Expectations that live requests failed at least once, and columns that miss values which training had, the worst first. */
  readonly dataQuality: readonly string[];
  readonly dataQualityLeftOut: number;
  readonly steps: readonly WindowStep[];
}

export interface ReportMetric {
  /** A metric of evaluations, or `outcome NAME`: the mean of what came of predictions. */
  readonly name: string;
  /** Null where nobody said. */
  readonly better: 'higher' | 'lower' | null;
  /** What it was when the version was judged; null where it is not known. */
  readonly reference: number | null;
}

export interface ReportValue {
  readonly value: number;
  /** Interval of 95 %; null where there is none. */
  readonly low: number | null;
  readonly high: number | null;
  /** Rows behind it. */
  readonly rows: number;
}

export interface WindowStep {
  readonly from: string;
  readonly to: string;
  readonly windows: number;
  readonly rows: number;
  readonly labelled: number;
  /** By place in `drift`: how far the column is, as a multiple of its limit (above 1: it drifted); null where it was not measured. */
  readonly drift: readonly (number | null)[];
  /** By place in `metrics`. */
  readonly labelledQuality: readonly (ReportValue | null)[];
  readonly estimatedQuality: readonly (ReportValue | null)[];
  /** By place in `dataQuality`: share of rows that fail, 0 to 1; null where it was not checked. */
  readonly failing: readonly (number | null)[];
}

export interface ReportEvent {
  readonly kind: 'rollout' | 'retraining' | 'alert';
  readonly at: string;
  readonly until: string | null;
  readonly what: string;
  /** `completed`, `rolled_back`, `started`, `open`, `acknowledged`, … */
  readonly state: string;
  readonly command: string | null;
}

export interface ReportFinding {
  /** One sentence, of the last window that had it. */
  readonly what: string;
  readonly check: string;
  readonly subject: string;
  readonly since: string;
  readonly until: string;
  /** Windows in a row that had it. */
  readonly windows: number;
  readonly against: string | null;
  readonly sure: string | null;
  /** `noticed`: never in as many windows in a row as its rule asks for. */
  readonly state: 'open' | 'over' | 'noticed';
  /** Looks closer. */
  readonly command: string;
}

const worst = (lists: readonly (readonly (number | null)[])[]): (number | null)[] =>
  (lists[0] ?? []).map((_, place) => lists.reduce<number | null>((most, list) => larger(most, list[place] ?? null), null));
const larger = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.max(a, b));

/** One value of several: the mean weighted by rows, between the lowest and the highest end of the intervals. */
export function mergeValues(values: readonly (ReportValue | null)[]): ReportValue | null {
  const found = values.filter((value) => value !== null);
  if (found.length < 2) return found[0] ?? null;
  const rows = found.reduce((sum, value) => sum + value.rows, 0);
  const ends = (of: (value: ReportValue) => number | null): number[] => found.flatMap((value) => of(value) ?? []);
  const [lows, highs] = [ends(({ low }) => low), ends(({ high }) => high)];
  return {
    value: found.reduce((sum, value) => sum + value.value * (rows === 0 ? 1 / found.length : value.rows / rows), 0),
    low: lows.length === 0 ? null : Math.min(...lows),
    high: highs.length === 0 ? null : Math.max(...highs),
    rows,
  };
}

/** Several steps, in order of time, as one: `WindowStep` says how. They are measured by the same columns and metrics. */
export function mergeSteps(steps: readonly [WindowStep, ...WindowStep[]]): WindowStep {
  const [first] = steps;
  const sum = (of: (step: WindowStep) => number): number => steps.reduce((all, step) => all + of(step), 0);
  const quality = (of: (step: WindowStep) => readonly (ReportValue | null)[]): (ReportValue | null)[] =>
    of(first).map((_, place) => mergeValues(steps.map((step) => of(step)[place] ?? null)));
  return {
    from: first.from,
    to: steps.reduce((to, step) => (step.to > to ? step.to : to), first.to),
    windows: sum((step) => step.windows),
    rows: sum((step) => step.rows),
    labelled: sum((step) => step.labelled),
    drift: worst(steps.map((step) => step.drift)),
    labelledQuality: quality((step) => step.labelledQuality),
    estimatedQuality: quality((step) => step.estimatedQuality),
    failing: worst(steps.map((step) => step.failing)),
  };
}

/** The steps as `most` or fewer. */
export function foldSteps(steps: readonly WindowStep[], most: number): readonly WindowStep[] {
  const each = Math.ceil(steps.length / most);
  if (each <= 1) return steps;
  return Array.from({ length: Math.ceil(steps.length / each) }, (_, place) => {
    const [first, ...others] = steps.slice(place * each, (place + 1) * each);
    return first === undefined ? [] : [mergeSteps([first, ...others])];
  }).flat();
}

/** The traffic in `most` steps or fewer from its first one on: requests and errors as the mean of the steps that each stands for, latency as the slowest. */
export function foldTraffic({ steps, stepMs }: EndpointReport['traffic'], most: number): EndpointReport['traffic'] {
  const [first, last] = [steps[0], steps.at(-1)].map((step) => Date.parse(step?.from ?? '1970-01-01T00:00:00.000Z')) as [number, number];
  const each = Math.ceil(((last - first) / stepMs + 1) / most);
  if (each <= 1) return { steps, stepMs };
  const groups = new Map<number, TrafficStep[]>();
  for (const step of steps) {
    const place = Math.floor((Date.parse(step.from) - first) / (stepMs * each));
    groups.set(place, [...(groups.get(place) ?? []), step]);
  }
  return {
    stepMs: stepMs * each,
    steps: [...groups].map(([place, group]) => {
      const versions = new Map<string, { model: string; version: number; requests: number; errors: number }>();
      for (const { model, version, requests, errors } of group.flatMap((step) => step.versions)) {
        const key = JSON.stringify([model, version]);
        const sum = versions.get(key) ?? { model, version, requests: 0, errors: 0 };
        versions.set(key, { ...sum, requests: sum.requests + requests / each, errors: sum.errors + errors / each });
      }
      const timed = group.flatMap(({ latencyMs }) => latencyMs ?? []);
      const slowest = (of: 'p50' | 'p95' | 'p99'): number => Math.max(...timed.map((latency) => latency[of]));
      return {
        from: new Date(first + place * each * stepMs).toISOString(),
        versions: [...versions.values()],
        latencyMs: timed.length === 0 ? null : { p50: slowest('p50'), p95: slowest('p95'), p99: slowest('p99') },
      };
    }),
  };
}
