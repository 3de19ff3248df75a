/** Gauges of which the processes of one server all have the same one: their sum would mean nothing. */
const NOT_ADDED: ReadonlySet<string> = new Set(['millrace_endpoint_epoch', 'millrace_route_failures']);

const nameOf = (series: string): string => series.split('{', 1)[0] ?? series;

/**
 * Prometheus texts of several processes as one: counters, histograms and gauges are added up; of epochs the least and of
 * failures the greatest is given, so that a process that lags behind is seen.
 */
export function mergeMetrics(texts: readonly string[]): string {
  const values = new Map<string, number>();
  const heads = new Map<string, string[]>();
  const families: { readonly name: string; readonly series: Set<string> }[] = [];
  for (const text of texts) {
    let family: (typeof families)[number] | undefined;
    for (const line of text.split('\n')) {
      if (line === '') continue;
      if (line.startsWith('#')) {
        const name = line.split(' ', 3)[2] ?? '';
        family = families.find((known) => known.name === name);
        if (family === undefined) {
          family = { name, series: new Set() };
          families.push(family);
          heads.set(name, []);
        }
        const head = heads.get(name);
        if (head?.includes(line) === false) head.push(line);
        continue;
      }
      const at = line.lastIndexOf(' ');
      const series = line.slice(0, at);
      const value = Number(line.slice(at + 1));
      family?.series.add(series);
      const before = values.get(series);
      const name = nameOf(series);
      if (before === undefined) values.set(series, value);
      else if (!NOT_ADDED.has(name)) values.set(series, before + value);
      else values.set(series, name === 'millrace_endpoint_epoch' ? Math.min(before, value) : Math.max(before, value));
    }
  }
  const out = families.flatMap(({ name, series }) => [...(heads.get(name) ?? []), ...[...series].map((s) => `${s} ${String(values.get(s) ?? 0)}`)]);
  return `${out.join('\n')}\n`;
}
