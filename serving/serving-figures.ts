/**
 * Counts of what was served: totals since the start for Prometheus, and the last interval's for the store.
 *
 * Invariants:
 * 1. Totals only grow, also when a version leaves and comes back.
 * 2. Each request is counted in exactly one interval; intervals of one server have different starts.
 */
import type { ServedVersion, ServingStats } from '../contracts/routes.ts';
import { LATENCY_BINS, latencyBin, MAX_LABEL_BINS, NOT_A_NUMBER_BIN, outputBins, probabilityBin, valueBin } from '../contracts/serving-bins.ts';
import type { Signature } from '../contracts/signature.ts';
import { answeredClass } from './answer-text.ts';

/** Upper bounds of the latency histogram's buckets, in seconds. */
const BUCKETS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

export interface VersionFigures {
  /** A request that was answered or failed. */
  count(code: number, rows: number, latencyMs: number): void;
  /** What `rows` rows were answered: `values` as the graph gave them, `width` a row, from row `firstRow` on. */
  countOutputs(signature: Signature, values: ArrayLike<number>, width: number, firstRow: number, rows: number): void;
  /** Rows that champion and challenger both answered (shadow), and how many of them alike. Counted at the challenger. */
  countCompared(compared: number, equal: number): void;
}

export interface ServingFigures {
  /** The counters of one version of an endpoint; the same ones each time. */
  of(endpoint: string, served: ServedVersion): VersionFigures;
  /** A request that no version answered. */
  countUnserved(code: number): void;
  /** The figures since the last call, for versions that had requests. */
  takeInterval(nowMs: number): ServingStats[];
  prometheus(gauges: readonly Gauge[]): string;
}

export interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  readonly values: readonly { readonly labels?: Readonly<Record<string, string>>; readonly value: number }[];
}

interface Counters extends VersionFigures {
  readonly endpoint: string;
  readonly served: ServedVersion;
  readonly codes: Map<number, number>;
  readonly buckets: Float64Array;
  rows: number;
  requests: number;
  latencySeconds: number;
  interval: Interval;
}

/** Counts by bin, made once and emptied after each interval. The last place is that of what is no number. */
interface Bins {
  readonly counts: Uint32Array;
  any: boolean;
}

interface Interval {
  requests: number;
  errors: number;
  latencyMsSum: number;
  latencyMsMax: number;
  compared: number;
  equal: number;
  readonly latency: Bins;
  labels: Bins | undefined;
  outputs: Bins | undefined;
}

const bins = (length: number): Bins => ({ counts: new Uint32Array(length + 1), any: false });

function countBin(into: Bins, bin: number): void {
  const at = bin === NOT_A_NUMBER_BIN ? into.counts.length - 1 : bin;
  into.counts[at] = (into.counts[at] ?? 0) + 1;
  into.any = true;
}

/** Bins with counts as pairs; the counts start anew. */
function takeBins(from: Bins | undefined): number[] {
  if (from?.any !== true) return [];
  const pairs: number[] = [];
  const last = from.counts.length - 1;
  for (let bin = 0; bin <= last; bin += 1) {
    const count = from.counts[bin] ?? 0;
    if (count > 0) pairs.push(bin === last ? NOT_A_NUMBER_BIN : bin, count);
  }
  from.counts.fill(0);
  from.any = false;
  return pairs;
}

const freshInterval = (): Interval => ({
  requests: 0,
  errors: 0,
  latencyMsSum: 0,
  latencyMsMax: 0,
  compared: 0,
  equal: 0,
  latency: bins(LATENCY_BINS),
  labels: undefined,
  outputs: undefined,
});
/** Of a version with other outputs than before, what was counted goes: its bins mean something else. */
const binsOf = (held: Bins | undefined, length: number): Bins => (held?.counts.length === length + 1 ? held : bins(length));
const SECOND_MS = 1_000;

function createCounters(endpoint: string, served: ServedVersion): Counters {
  const counters: Counters = {
    endpoint,
    served,
    codes: new Map(),
    buckets: new Float64Array(BUCKETS_SECONDS.length + 1),
    rows: 0,
    requests: 0,
    latencySeconds: 0,
    interval: freshInterval(),
    count(code, rows, latencyMs) {
      const seconds = latencyMs / SECOND_MS;
      counters.codes.set(code, (counters.codes.get(code) ?? 0) + 1);
      counters.rows += rows;
      counters.requests += 1;
      counters.latencySeconds += seconds;
      let bucket = 0;
      while (bucket < BUCKETS_SECONDS.length && seconds > (BUCKETS_SECONDS[bucket] ?? 0)) bucket += 1;
      counters.buckets[bucket] = (counters.buckets[bucket] ?? 0) + 1;
      const { interval } = counters;
      interval.requests += 1;
      if (code >= 500) interval.errors += 1;
      interval.latencyMsSum += latencyMs;
      if (latencyMs > interval.latencyMsMax) interval.latencyMsMax = latencyMs;
      countBin(interval.latency, latencyBin(latencyMs));
    },
    countOutputs(signature, values, width, firstRow, rows) {
      const { interval } = counters;
      const { task } = signature;
      const outputs = binsOf(interval.outputs, outputBins(task));
      interval.outputs = outputs;
      const end = (firstRow + rows) * width;
      if (task.kind === 'regression' || task.kind === 'raw') {
        for (let at = firstRow * width; at < end; at += width) countBin(outputs, valueBin(values[at] ?? Number.NaN));
        return;
      }
      const labels = binsOf(interval.labels, Math.min(MAX_LABEL_BINS, task.classes.length));
      interval.labels = labels;
      for (let at = firstRow * width; at < end; at += width) {
        const score = values[at + 1] ?? Number.NaN;
        const label = Number.isNaN(score) ? NOT_A_NUMBER_BIN : Math.min(MAX_LABEL_BINS - 1, answeredClass(signature, values, at, width));
        countBin(labels, label);
        countBin(outputs, task.kind === 'binary' ? probabilityBin(score) : label);
      }
    },
    countCompared(compared, equal) {
      counters.interval.compared += compared;
      counters.interval.equal += equal;
    },
  };
  return counters;
}

const escapeLabel = (value: string): string => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
const line = (name: string, labels: Readonly<Record<string, string>>, value: number): string => {
  const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`);
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`;
};

export function createServingFigures(serverId: string): ServingFigures {
  const versions = new Map<string, Counters>();
  const unserved = new Map<number, number>();
  let lastFromMs = 0;

  return {
    of(endpoint, served) {
      const key = `${endpoint} ${served.model} ${served.version}`;
      let counters = versions.get(key);
      if (counters === undefined) {
        counters = createCounters(endpoint, served);
        versions.set(key, counters);
      }
      return counters;
    },
    countUnserved(code) {
      unserved.set(code, (unserved.get(code) ?? 0) + 1);
    },
    takeInterval(nowMs) {
      const fromMs = Math.max(Math.floor(nowMs / SECOND_MS) * SECOND_MS - SECOND_MS, lastFromMs + SECOND_MS);
      const stats: ServingStats[] = [];
      for (const { endpoint, served, interval } of versions.values()) {
        if (interval.requests === 0 && interval.compared === 0) continue;
        const { requests, errors, latencyMsSum, latencyMsMax, compared, equal } = interval;
        stats.push({
          server: serverId,
          endpoint,
          model: served.model,
          version: served.version,
          from: new Date(fromMs).toISOString(),
          requests,
          errors,
          latencyMsSum,
          latencyMsMax,
          latency: takeBins(interval.latency),
          labels: takeBins(interval.labels),
          outputs: takeBins(interval.outputs),
          compared,
          equal,
        });
        Object.assign(interval, { requests: 0, errors: 0, latencyMsSum: 0, latencyMsMax: 0, compared: 0, equal: 0 });
      }
      if (stats.length > 0) lastFromMs = fromMs;
      return stats;
    },
    prometheus(gauges) {
      const out: string[] = [];
      const head = (name: string, type: string, help: string): void => {
        out.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      };
      head('millrace_predictions_total', 'counter', 'Prediction requests by endpoint, version and HTTP code.');
      for (const { endpoint, served, codes } of versions.values()) {
        for (const [code, count] of codes)
          out.push(line('millrace_predictions_total', { endpoint, model: served.model, version: String(served.version), code: String(code) }, count));
      }
      for (const [code, count] of unserved) out.push(line('millrace_predictions_total', { endpoint: '', model: '', version: '', code: String(code) }, count));
      head('millrace_predicted_rows_total', 'counter', 'Rows of prediction requests.');
      for (const { endpoint, served, rows } of versions.values())
        out.push(line('millrace_predicted_rows_total', { endpoint, model: served.model, version: String(served.version) }, rows));
      head('millrace_prediction_duration_seconds', 'histogram', 'Time from a request read to its answer made.');
      for (const { endpoint, served, buckets, latencySeconds, requests } of versions.values()) {
        const labels = { endpoint, model: served.model, version: String(served.version) };
        let below = 0;
        for (const [i, bound] of [...BUCKETS_SECONDS, Number.POSITIVE_INFINITY].entries()) {
          below += buckets[i] ?? 0;
          out.push(line('millrace_prediction_duration_seconds_bucket', { ...labels, le: Number.isFinite(bound) ? String(bound) : '+Inf' }, below));
        }
        out.push(
          line('millrace_prediction_duration_seconds_sum', labels, latencySeconds),
          line('millrace_prediction_duration_seconds_count', labels, requests),
        );
      }
      for (const gauge of gauges) {
        head(gauge.name, gauge.type, gauge.help);
        for (const { labels, value } of gauge.values) out.push(line(gauge.name, labels ?? {}, value));
      }
      return `${out.join('\n')}\n`;
    },
  };
}
