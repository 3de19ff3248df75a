import type { MirrorStanding } from '../store/mlflow-mirror.ts';

/** One figure with its labelled values, in Prometheus's text format 0.0.4. */
export interface PrometheusMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: readonly { readonly labels?: Readonly<Record<string, string>>; readonly value: number }[];
}

const escapeLabel = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

/** Writes metrics as Prometheus reads them. */
export function prometheusText(metrics: readonly PrometheusMetric[]): string {
  const lines: string[] = [];
  for (const { name, help, type, values } of metrics) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const { labels = {}, value } of values) {
      const text = Object.entries(labels)
        .map(([key, label]) => `${key}="${escapeLabel(label)}"`)
        .join(',');
      lines.push(`${name}${text === '' ? '' : `{${text}}`} ${value}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

const startedAtSeconds = Date.now() / 1_000 - process.uptime();

/** What Prometheus's client libraries say of every process. */
export function processMetrics(): readonly PrometheusMetric[] {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const one = (value: number): PrometheusMetric['values'] => [{ value }];
  return [
    { name: 'process_cpu_seconds_total', help: 'CPU time, user and system.', type: 'counter', values: one((user + system) / 1e6) },
    { name: 'process_resident_memory_bytes', help: 'Resident memory.', type: 'gauge', values: one(rss) },
    { name: 'process_start_time_seconds', help: 'Start of the process, seconds since 1970.', type: 'gauge', values: one(startedAtSeconds) },
    { name: 'nodejs_heap_size_used_bytes', help: 'Heap in use.', type: 'gauge', values: one(heapUsed) },
  ];
}

/** How far the mirror to an outside MLflow server is behind. */
export function mirrorMetrics({ waitingRuns, oldest, refusedRuns }: MirrorStanding): readonly PrometheusMetric[] {
  const gauge = (name: string, help: string, value: number): PrometheusMetric => ({
    name: `millrace_mlflow_mirror_${name}`,
    help,
    type: 'gauge',
    values: [{ value }],
  });
  return [
    gauge('waiting_runs', 'Runs of which something is not mirrored yet; counted up to 10,000.', waitingRuns),
    gauge('behind_seconds', 'How long the oldest change waits to be mirrored.', oldest === null ? 0 : Math.max(0, (Date.now() - Date.parse(oldest)) / 1_000)),
    gauge('refused_runs', 'Runs that the outside server refuses.', refusedRuns),
  ];
}
