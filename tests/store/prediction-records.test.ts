/** What happens to predictions, feedback and flagged rows after a server wrote them, on real Postgres. */
import { appendFile, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../config/config.ts';
import type { FeedbackRecord, OutcomeRecord, PredictionRecord } from '../../contracts/routes.ts';
import { flagReviews } from '../../workers/flag-reviews.ts';
import { joinFeedback, metricsOf, takeFeedback, WAITS_MS } from '../../workers/join-feedback.ts';
import { compactRecords } from '../../workers/prediction-records.ts';
import { freshStore } from '../support/database.ts';
import { openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

let store: Awaited<ReturnType<typeof freshStore>>;
let bench: ServingBench;
const told: string[] = [];
let deps: Parameters<typeof takeFeedback>[0];
let endpoint = '';
let endpoints = 0;

beforeAll(async () => {
  store = await freshStore();
  const artifacts = await openServingBench();
  bench = artifacts;
  const { predictor } = await publishVersion(bench.artifacts, 1);
  for (let version = 1; version <= 2; version += 1) await store.models.register({ model: 'flight-delay', predictor, metrics: {}, evaluation: null });
  return () => bench.close();
});
beforeEach(() => {
  endpoints += 1;
  endpoint = `flights-${endpoints}`;
  told.length = 0;
  deps = {
    store,
    artifacts: bench.artifacts,
    config: { ...loadConfig({ env: {} }), home: bench.home },
    log: (_level, message) => told.push(message),
  };
});
afterEach(async () => {
  for (const kind of ['predictions', 'feedback', 'reviews']) await rm(join(bench.home, kind), { recursive: true, force: true });
});

const MINUTE = '2026-01-01T08:30:00.000Z';
const prediction = (requestId: string, more: Partial<PredictionRecord> = {}): string =>
  `${JSON.stringify({ requestId, row: 0, at: '2026-01-01T08:30:12.345Z', model: 'flight-delay', version: 1, challenger: false, inputs: { distance: 1 }, output: [0.25, 0.75], latencyMs: 1, ...more } satisfies PredictionRecord)}\n`;
const label = (requestId: string, value: string | number | boolean, row = 0): string =>
  `${JSON.stringify({ requestId, row, label: value, at: '2026-01-01T09:10:00.000Z' } satisfies FeedbackRecord)}\n`;
const outcome = (requestId: string, name: string, value: number): string =>
  `${JSON.stringify({ requestId, row: 0, outcome: name, value, happenedAt: '2026-01-01T09:00:00.000Z', at: '2026-01-01T09:10:00.000Z' } satisfies OutcomeRecord)}\n`;
async function log(kind: 'predictions' | 'feedback' | 'reviews', text: string, name = '2026-01-01T08-a'): Promise<string> {
  const path = join(bench.home, kind, endpoint, `${name}.jsonl`);
  await mkdir(dirname(path), { recursive: true });
  await appendFile(path, text);
  return path;
}
const settle = async (): Promise<void> => {
  await takeFeedback(deps);
  await joinFeedback(deps);
};
const figures = async (metrics: readonly string[]): Promise<readonly unknown[]> =>
  (await store.stats.outcomes({ endpoint, metrics, from: '2026-01-01T00:00:00.000Z' })).map(({ version, from, metric, n, sum }) => [
    version,
    from,
    metric,
    n,
    Number(sum.toFixed(6)),
  ]);
const due = (requestId: string): Promise<unknown> => store.feedback.ofRequest(endpoint, requestId);

describe('feedback', () => {
  it('is joined with its predictions and added to the figures of the version that made them', async () => {
    await log('predictions', prediction('r1') + prediction('r2', { version: 2, output: [0.9, 0.1] }) + prediction('r3'));
    await log('feedback', label('r1', 'late') + label('r2', 'late') + label('r3', 'on time') + outcome('r1', 'revenue', 12.5) + outcome('r3', 'revenue', 7.5));
    expect(await takeFeedback(deps)).toBe(5);
    expect(await joinFeedback(deps)).toBe(5);
    expect(await figures(['correct', 'revenue'])).toEqual([
      [1, MINUTE, 'correct', 2, 1],
      [2, MINUTE, 'correct', 1, 0],
      [1, MINUTE, 'revenue', 2, 20],
    ]);
    expect(await figures(['logLoss'])).toEqual([
      [1, MINUTE, 'logLoss', 2, Number((-Math.log(0.75) - Math.log(0.25)).toFixed(6))],
      [2, MINUTE, 'logLoss', 1, Number((-Math.log(0.1)).toFixed(6))],
    ]);
    expect(await store.feedback.summary(endpoint)).toEqual({
      endpoint,
      joined: 5,
      waiting: 0,
      unknown: 0,
      duplicates: 0,
      byName: [
        { name: '', joined: 3, waiting: 0, unknown: 0 },
        { name: 'revenue', joined: 2, waiting: 0, unknown: 0 },
      ],
    });
  });

  it('counts once however often it is read, said again or taken by two at once', async () => {
    await log('predictions', prediction('r1') + prediction('r2'));
    await log('feedback', label('r1', 'late') + label('r1', 'on time'));
    await Promise.all([takeFeedback(deps), takeFeedback(deps)]);
    await Promise.all([joinFeedback(deps), joinFeedback(deps)]);
    await log('feedback', label('r1', 'late') + label('r2', 'late'));
    await settle();
    await settle();
    expect(await figures(['correct'])).toEqual([[1, MINUTE, 'correct', 2, 2]]);
    expect(await store.feedback.summary(endpoint)).toMatchObject({ joined: 2, duplicates: 2 });
  });

  it('that is late finds predictions that are Parquet by now', async () => {
    const path = await log('predictions', prediction('r1'));
    await utimes(path, new Date('2026-01-01T08:59:00Z'), new Date('2026-01-01T08:59:00Z'));
    for (let times = 0; times < 2; times += 1) await compactRecords(deps, undefined, { graceMs: 0 });
    expect(await readdir(dirname(path))).toEqual([expect.stringMatching(/^2026-01-01T08-a\.\d+\.parquet$/)]);
    await log('feedback', `${JSON.stringify({ requestId: 'r1', row: 0, label: 'late', at: new Date().toISOString() })}\n`);
    await takeFeedback(deps);
    // months later: not among the recent ones, so the first look misses it
    expect(await joinFeedback(deps)).toBe(0);
    await store.feedback.miss([{ endpoint, requestId: 'r1', row: 0, name: '', value: 'late', receivedAt: '', tries: 0 }], [0]);
    expect(await joinFeedback(deps)).toBe(1);
    expect(await figures(['correct'])).toEqual([[1, MINUTE, 'correct', 1, 1]]);
  });

  it('about requests or rows that the endpoint did not log is unknown after some tries, and waits no longer', async () => {
    await log('predictions', prediction('r1'));
    await log('feedback', label('stranger', 'late') + label('r1', 'late', 7));
    await settle();
    expect(await store.feedback.summary(endpoint)).toMatchObject({ joined: 0, waiting: 2, unknown: 0 });
    for (let tries = 1; tries <= WAITS_MS.length; tries += 1)
      await store.feedback.miss(
        ['stranger', 'r1'].map((requestId) => ({ endpoint, requestId, row: requestId === 'r1' ? 7 : 0, name: '', value: 'late', receivedAt: '', tries })),
        WAITS_MS,
      );
    expect(await store.feedback.summary(endpoint)).toMatchObject({ joined: 0, waiting: 0, unknown: 2 });
    expect(await due('stranger')).toMatchObject([{ status: 'unknown', version: null, value: 'late' }]);
    expect(await figures(['correct'])).toEqual([]);
  });

  it('is taken in whole lines; half a line that nobody goes on with is passed over', async () => {
    await log('predictions', prediction('r1') + prediction('r2'));
    const whole = label('r2', 'late');
    const path = await log('feedback', label('r1', 'late') + whole.slice(0, 30));
    expect(await takeFeedback(deps)).toBe(1);
    await appendFile(path, whole.slice(30));
    expect(await takeFeedback(deps)).toBe(1);
    const torn = await log('feedback', label('r1', 'late').slice(0, 20), '2026-01-01T08-b');
    await utimes(torn, new Date('2026-01-01T08:59:00Z'), new Date('2026-01-01T08:59:00Z'));
    await takeFeedback(deps);
    expect((await store.feedback.offsets([`feedback/${endpoint}/2026-01-01T08-b`])).get(`feedback/${endpoint}/2026-01-01T08-b`)).toBe(20);
  });

  it('stays in lines until it was read', async () => {
    const path = await log('feedback', label('r1', 'late'));
    await utimes(path, new Date('2026-01-01T08:59:00Z'), new Date('2026-01-01T08:59:00Z'));
    for (let times = 0; times < 3; times += 1) await compactRecords(deps, undefined, { graceMs: 0 });
    expect((await readdir(dirname(path))).filter((name) => name.endsWith('.jsonl'))).toHaveLength(1);
    expect(await takeFeedback(deps)).toBe(1);
    await compactRecords(deps, undefined, { graceMs: 0 });
    expect((await readdir(dirname(path))).filter((name) => name.endsWith('.jsonl'))).toHaveLength(0);
  });

  it('that is older than predictions are kept is forgotten, and the figures stay', async () => {
    await log('predictions', prediction('r1'));
    await log('feedback', label('r1', 'late'));
    await settle();
    const config = { ...deps.config, retention: { ...deps.config.retention, predictions: { keepMs: 1_000 } } };
    for (const kind of ['predictions', 'feedback'])
      await utimes(join(bench.home, kind, endpoint, '2026-01-01T08-a.jsonl'), new Date('2026-01-01T08:59:00Z'), new Date('2026-01-01T08:59:00Z'));
    await compactRecords({ ...deps, config }, undefined, { graceMs: 0 });
    expect(await readdir(join(bench.home, 'predictions', endpoint))).toEqual([]);
    expect(await due('r1')).toEqual([]);
    expect(await figures(['correct'])).toEqual([[1, MINUTE, 'correct', 1, 1]]);
  });
});

describe('what a value says of its prediction', () => {
  it.each([
    ['a label that is right', { name: '', value: 'b' }, [0.2, 0.5, 0.3], { correct: 1, logLoss: -Math.log(0.5) }],
    ['a label that is wrong', { name: '', value: 'c' }, [0.2, 0.5, 0.3], { correct: 0, logLoss: -Math.log(0.3) }],
    ['a label that is no class', { name: '', value: 'd' }, [0.2, 0.5, 0.3], {}],
    ['an outcome', { name: 'revenue', value: -3 }, [0.2, 0.5, 0.3], { revenue: -3 }],
  ])('%s', (_, value, output, expected) => {
    expect(metricsOf(value, { output }, { task: { kind: 'multiclass', target: 'x', classes: ['a', 'b', 'c'] }, threshold: 0.5 })).toEqual(expected);
  });

  it('follows the threshold, and for numbers is the error', () => {
    const binary = { task: { kind: 'binary' as const, target: 'x', classes: ['false', 'true'] }, threshold: 0.8 };
    expect(metricsOf({ name: '', value: true }, { output: [0.3, 0.7] }, binary)).toEqual({ correct: 0, logLoss: -Math.log(0.7) });
    const regression = { task: { kind: 'regression' as const, target: 'x' }, threshold: 0.5 };
    expect(metricsOf({ name: '', value: 3 }, { output: [5] }, regression)).toEqual({ absoluteError: 2, squaredError: 4 });
    expect(metricsOf({ name: '', value: 'three' }, { output: [5] }, regression)).toEqual({});
    expect(metricsOf({ name: '', value: 1 }, { output: [5] }, undefined)).toEqual({});
  });
});

describe('rows that a rule wants reviewed', () => {
  it('go to their label queue once, and the answers come back as labels', async () => {
    await log('reviews', prediction('r1', { review: 'check', action: 'hold' }) + prediction('r2', { review: 'check', action: 'hold', output: [0.45, 0.55] }));
    expect(await flagReviews(deps)).toBe(2);
    expect(await flagReviews(deps)).toBe(0);
    expect((await store.labels.list()).find(({ name }) => name === 'check')).toMatchObject({ open: 2, classes: ['on time', 'late'] });
    const item = await store.labels.next('check', 'ada');
    // the less sure one first
    expect(item?.shown).toEqual({ distance: 1 });
    await store.labels.answer('check', { item: item?.id ?? '', by: 'ada', label: 'late' });
    expect(await store.labels.unfed()).toMatchObject([{ flagged: { endpoint, requestId: 'r2', row: 0 }, label: 'late' }]);
  });

  it('of a version that is unknown are passed over with a warning, and others go on', async () => {
    await log('reviews', prediction('r1', { review: 'gone', model: 'nobody' }) + prediction('r2', { review: 'there' }) + '{"torn":');
    expect(await flagReviews(deps)).toBe(1);
    expect(told).toEqual(['rows that were flagged cannot be put into their label queue']);
  });

  it('are not needed once they were read and nobody writes the file any more', async () => {
    const path = await log('reviews', prediction('r1', { review: 'old' }));
    await utimes(path, new Date('2026-01-01T08:59:00Z'), new Date('2026-01-01T08:59:00Z'));
    await flagReviews(deps);
    expect(await readdir(dirname(path))).toEqual([]);
    await writeFile(path, '');
  });
});
