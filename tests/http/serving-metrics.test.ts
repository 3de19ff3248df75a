/** `/metrics` as Prometheus reads it: its text format, its naming, and the page that lists it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import { FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

/** The text format 0.0.4, strictly: each line is a comment of a family or a sample of the family before it. */
function parse(text: string): ReadonlyMap<string, Family> {
  const families = new Map<string, Family>();
  let help: [string, string] | undefined;
  let current: [string, Family] | undefined;
  expect(text.endsWith('\n')).toBe(true);
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name = '', rest = ''] = comment;
      if (kind === 'HELP') help = [name, rest];
      else {
        expect(help?.[0], line).toBe(name);
        expect(families.has(name), `${name} is there twice`).toBe(false);
        current = [name, { type: rest, help: help?.[1] ?? '', samples: [] }];
        families.set(...current);
      }
      continue;
    }
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$/.exec(line);
    if (sample === null) throw new Error(`no line of the format: ${line}`);
    const [, name = '', labels = '', value = ''] = sample;
    const family = current?.[0] ?? '';
    expect(current?.[1].type === 'histogram' ? name.replace(/_(?:bucket|sum|count)$/, '') : name, line).toBe(family);
    expect(Number.isFinite(Number(value)), line).toBe(true);
    current?.[1].samples.push({
      name,
      labels: Object.fromEntries([...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\\n]|\\.)*)"/g)].map(([, key = '', text_ = '']) => [key, text_])),
      value: Number(value),
    });
  }
  return families;
}

let bench: ServingBench;
let families: ReadonlyMap<string, Family>;
beforeAll(async () => {
  bench = await openServingBench();
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { url } = await bench.serve();
  const post = (path: string, body: unknown): Promise<Response> =>
    fetch(`${url}/${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  for (let i = 0; i < 5; i += 1) await post('predict/flights', { rows: [FLIGHT, FLIGHT] });
  await post('predict/flights', { rows: [] });
  await post('predict/nobody', { rows: [FLIGHT] });
  await post('feedback/flights', { labels: [{ requestId: 'r', label: 1 }] });
  const response = await fetch(`${url}/metrics`);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  families = parse(await response.text());
});
afterAll(() => bench.close());

it('names counters with _total, units in their base and whole, and everything with a prefix', () => {
  for (const [name, { type, help }] of families) {
    expect(name).toMatch(/^(?:millrace|process)_[a-z0-9_]+$/);
    expect(help).toMatch(/^[A-Z].*\.$/);
    expect(['counter', 'gauge', 'histogram']).toContain(type);
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    expect(name).not.toMatch(/_(?:ms|milliseconds|mib|kb|minutes|percent)(?:_|$)/);
    if (type === 'histogram') expect(name).toMatch(/_(?:seconds|bytes)$/);
  }
});

it('counts requests by code, and rows apart', () => {
  const of = (name: string, labels: Readonly<Record<string, string>>): number | undefined =>
    families.get(name)?.samples.find((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))?.value;
  expect(of('millrace_predictions_total', { endpoint: 'flights', version: '1', code: '200' })).toBe(5);
  expect(of('millrace_predictions_total', { endpoint: 'flights', code: '400' })).toBe(1);
  expect(of('millrace_predictions_total', { code: '404' })).toBe(1);
  expect(of('millrace_predicted_rows_total', { endpoint: 'flights' })).toBe(10);
  expect(of('millrace_requests_in_flight', {})).toBe(0);
  expect(of('millrace_prediction_log_dropped_total', {})).toBe(0);
  expect(of('millrace_feedback_lines_total', {})).toBe(1);
});

it('has histograms whose buckets rise to +Inf, which is their count', () => {
  const samples = families.get('millrace_prediction_duration_seconds')?.samples ?? [];
  const buckets = samples.filter(({ name }) => name.endsWith('_bucket'));
  const bounds = buckets.map(({ labels }) => (labels['le'] === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels['le'])));
  expect(bounds).toEqual([...bounds].sort((a, b) => a - b));
  expect(bounds.at(-1)).toBe(Number.POSITIVE_INFINITY);
  const counts = buckets.map(({ value }) => value);
  expect(counts).toEqual([...counts].sort((a, b) => a - b));
  expect(samples.find(({ name }) => name.endsWith('_count'))?.value).toBe(counts.at(-1));
  expect(samples.find(({ name }) => name.endsWith('_sum'))?.value).toBeGreaterThan(0);
});

it('is what the page says', async () => {
  const page = await readFile(join(packageRoot, 'docs', 'serving.md'), 'utf8');
  const section = page.slice(page.indexOf('\n## Metrics\n')).split('\n## ')[1] ?? '';
  const listed = [...section.matchAll(/^\| `(\w+)` \| (\w+) \|/gm)].map(([, name = '', type = '']) => [name, type]);
  expect(listed.sort()).toEqual([...families].map(([name, { type }]) => [name, type]).sort());
});
