import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { measureWindow } from '../../../activities/measure-window.ts';
import type { MonitorJob } from '../../../activities/monitor-job.ts';
import { expectations, notNull, between } from '../../../contracts/expectations.ts';
import type { Profile } from '../../../contracts/profile.ts';
import { MonitorInputSchema } from '../../../contracts/stages.ts';
import { call, col, set } from '../../../contracts/row-transforms.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { feedbackByWindow, windowEnd } from '../../../data/monitor-rows.ts';
import { feedbackSegments, predictionSegments } from '../../../data/prediction-segments.ts';
import { profileDataset } from '../../../data/profile.ts';
import { answersOf } from '../../../ml/drift/answers.ts';
import { scoreBinsOf } from '../../../ml/evaluation/calibration.ts';
import { FLIGHT_SIGNATURE, flightModel, expectedProbability } from '../../support/serving-fixture.ts';

const FROM = '2001-01-01T00:00:00.000Z';
const TO = '2001-01-01T01:00:00.000Z';
const ROWS = 300;
const options = MonitorInputSchema.parse({ endpoint: 'late', everyMs: 3_600_000, quality: { slices: ['origin'], leastSliceRows: 50 } });

interface Logged {
  readonly miles: number | null;
  readonly seats: number;
  readonly origin: string;
  readonly departed: string;
}
const inputsOf = (i: number): Logged => ({
  miles: 0.5 + ((i * 7) % 40) / 10,
  seats: ((i * 3) % 11) / 10,
  origin: i % 2 === 0 ? 'ATL' : 'ORD',
  departed: '2001-01-02T00:00:00.000Z',
});
const answerOf = ({ miles, ...row }: Logged, factor = 0.5): number[] => {
  const late = expectedProbability({ ...row, distance: miles === null ? null : miles * factor }, 0);
  return [1 - late, late];
};

let folder: string;
let signature: MonitorJob['predictor']['signature'];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-measure-window-'));
  await writeFile(join(folder, 'model.onnx'), flightModel(0));
  // requests carry miles, the graph takes half of them
  signature = {
    ...FLIGHT_SIGNATURE,
    columns: [{ name: 'miles', type: 'number' }, ...FLIGHT_SIGNATURE.columns.filter(({ name }) => name !== 'distance')],
    transforms: [set('distance', call('multiply', col('miles'), 0.5))],
  };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** One endpoint's logs: rows with their answers, and labels of them. */
async function logs(
  name: string,
  log: { readonly rows?: number; readonly line?: (i: number) => object; readonly feedback?: readonly object[] },
): Promise<Pick<MonitorJob, 'segments' | 'feedback'>> {
  for (const kind of ['predictions', 'feedback']) await mkdir(join(folder, kind, name), { recursive: true });
  const lines = Array.from({ length: log.rows ?? ROWS }, (_, i) => {
    const inputs = inputsOf(i);
    const at = new Date(Date.parse(FROM) + i * 10_000).toISOString();
    const line = { requestId: `r${String(i)}`, row: 0, at, model: 'm', version: 1, challenger: false, inputs, output: answerOf(inputs), latencyMs: i };
    return JSON.stringify({ ...line, ...log.line?.(i) });
  });
  await writeFile(join(folder, 'predictions', name, 'a.jsonl'), lines.map((line) => `${line}\n`).join(''));
  await writeFile(join(folder, 'feedback', name, 'a.jsonl'), (log.feedback ?? []).map((line) => `${JSON.stringify(line)}\n`).join(''));
  return { segments: await predictionSegments(folder, name, FROM), feedback: await feedbackSegments(folder, name, FROM) };
}

const job = (of: Pick<MonitorJob, 'segments' | 'feedback'>, whole: Partial<NonNullable<MonitorJob['whole']>> = {}): MonitorJob => ({
  kind: 'monitor',
  model: 'm',
  version: 1,
  from: FROM,
  to: TO,
  feedbackUntil: '2001-01-02T00:00:00.000Z',
  predictor: {
    format: 'millrace-predictor/1',
    onnx: 'a'.repeat(64),
    onnxSizeBytes: 1,
    signature,
    trainer: { name: 'test', parameters: {} },
    trainingProfile: null,
    sample: { rows: [], output: [] },
    importance: [],
    unserved: {},
    lookups: [],
  },
  quality: options.quality,
  metrics: ['auc'],
  whole: {
    reference: null,
    watched: [],
    domain: null,
    calibration: null,
    estimated: [],
    skew: { rows: 100, tolerance: 1e-5, seed: 1, onnx: join(folder, 'model.onnx'), hashKey: 'a key' },
    expectations: null,
    detectors: [],
    arrivedFrom: FROM,
    arrivals: of.segments,
    ...whole,
  },
  ...of,
});
const measure = (given: MonitorJob) => measureWindow(given, () => undefined);
const label = (i: number, value: unknown, at = '2001-01-01T02:00:00.000Z') => ({ requestId: `r${String(i)}`, row: 0, label: value, at });
const truth = (i: number): string => ((answerOf(inputsOf(i))[1] ?? 0) > 0.5 === (i % 5 !== 0) ? 'late' : 'on time');
const labels = Array.from({ length: ROWS }, (_, i) => label(i, truth(i)));

describe('a window of an endpoint', () => {
  it('is judged by its labels: figures with intervals, and by slice; later windows and other requests do not count', async () => {
    const foreign = [label(ROWS + 5, 'late'), { ...label(1, 'late'), requestId: 'of another endpoint' }];
    const again = label(0, truth(0), '2001-01-01T01:00:00.000Z');
    const measured = await measure(job(await logs('judged', { feedback: [...labels, ...foreign, again] })));
    expect(measured).toMatchObject({
      rows: ROWS,
      log: { otherVersions: 0, repeated: 0, relabelled: 1 },
      quality: { state: 'judged', rows: ROWS, labelled: ROWS },
    });
    // every fifth label is turned round
    expect(measured.quality?.metrics['accuracy']).toBeCloseTo(0.8, 10);
    expect(measured.quality?.intervals['auc']?.low).toBeLessThan(measured.quality?.metrics['auc'] ?? 0);
    expect(measured.quality?.slices).toMatchObject([{ column: 'origin', metric: 'auc', values: [{ rows: 150 }, { rows: 150 }] }]);
    expect(measured.latencyMs?.p50).toBeCloseTo((ROWS - 1) / 2, 10);
  });

  it('says what is missing instead of a figure: no traffic, no labels, few, of one class, of classes that the model does not know', async () => {
    const state = async (name: string, feedback: readonly object[]) => (await measure(job(await logs(name, { feedback })))).quality?.state;
    expect(await state('none', [])).toBe('noLabels');
    expect(await state('few', labels.slice(0, 20))).toBe('fewLabels');
    expect(
      await state(
        'one',
        labels.map(({ requestId, row, at }) => ({ requestId, row, at, label: 'late' })),
      ),
    ).toBe('oneClass');
    const unknown = await measure(job(await logs('unknown', { feedback: [...labels, label(0, 'maybe', '2001-01-01T03:00:00.000Z')] })));
    expect(unknown.quality).toMatchObject({ state: 'judged', labelled: ROWS - 1, unknownLabels: 1 });
    const quiet = await measure({ ...job(await logs('quiet', {})), from: TO, to: '2001-01-01T02:00:00.000Z' });
    expect(quiet.rows).toBe(0);
    expect((await measure(job({ segments: [], feedback: [] }))).rows).toBe(0);
  });

  it('takes the last of predictions that were logged twice, and tells of them and of other versions', async () => {
    const measured = await measure(
      job(await logs('twice', { line: (i) => (i === 7 ? { requestId: 'r6' } : i === 8 ? { version: 2 } : i === 9 ? { shadow: true } : {}) })),
    );
    expect(measured).toMatchObject({ rows: ROWS - 3, log: { repeated: 1, otherVersions: 1 } });
  });

  describe('against the training data', () => {
    const RAW = [
      { name: 'miles', type: 'number' },
      { name: 'seats', type: 'number' },
      { name: 'origin', type: 'string' },
    ] as const;
    /** Rows as requests are, so many an hour for five days: more in the hours of the first half of a day. */
    const trained = async (): Promise<{ readonly path: string; readonly profile: Profile }> => {
      const path = join(folder, 'trained.parquet');
      await withDuckDb({}, (db) =>
        db.run(
          `COPY (SELECT TIMESTAMP '2000-12-01' + to_seconds(CAST(i * 20 AS BIGINT)) AS at, 0.5 + ((i * 7) % 40) / 10 AS miles, ((i * 3) % 11) / 10 AS seats, CASE WHEN i % 2 = 0 THEN 'ATL' ELSE 'ORD' END AS origin FROM range(21600) t(i)) TO '${path}' (FORMAT parquet)`,
        ),
      );
      return { path, profile: await profileDataset([{ path, rows: 21_600 }], [{ name: 'at', type: 'timestamp' }, ...RAW]) };
    };
    const against = async (of: Pick<MonitorJob, 'segments' | 'feedback'>, whole: Partial<NonNullable<MonitorJob['whole']>> = {}) => {
      const { profile } = await trained();
      return measure(job(of, { reference: profile, watched: RAW.map(({ name }) => name), skew: null, ...whole }));
    };

    it('counts each request once in its drift, though a server that died logged some again', async () => {
      const once = await against(await logs('once', {}));
      const of = await logs('again', {});
      const lines = (await readFile(join(folder, 'predictions', 'again', 'a.jsonl'), 'utf8')).split('\n').slice(0, 100);
      await writeFile(join(folder, 'predictions', 'again', 'b.jsonl'), `${lines.join('\n')}\n`);
      const twice = await against({ ...of, segments: await predictionSegments(folder, 'again', FROM) });
      expect(twice).toMatchObject({ rows: ROWS, log: { repeated: 100 }, drift: { rows: ROWS } });
      expect(twice.drift).toEqual(once.drift);
    });

    it('tells a column that requests do not have from one whose values are missing: a changed schema', async () => {
      const { drift } = await against(
        await logs('schema', { line: (i) => ({ inputs: { seats: inputsOf(i).seats, origin: null, departed: null, extra: 1 } }) }),
      );
      expect(drift).toMatchObject({ skipped: ['miles'], reasons: { miles: 'missing' } });
      expect(drift?.columns.find(({ column }) => column === 'origin')?.nullFraction).toEqual({ training: 0, recent: 1 });
      // texts in place of numbers are no values
      const texts = await against(await logs('texts', { line: (i) => ({ inputs: { ...inputsOf(i), miles: 'far' } }) }));
      expect(texts.drift?.columns.find(({ column }) => column === 'miles')?.nullFraction.recent).toBe(1);
    });

    it("compares the model's answers with those of its evaluation", async () => {
      const scores = Float64Array.from({ length: ROWS }, (_, i) => answerOf(inputsOf(i))[1] as number);
      const y = Float64Array.from({ length: ROWS }, (_, i) => (truth(i) === 'late' ? 1 : 0));
      const curves = { scoreBins: scoreBinsOf(scores, y) };
      const answers = answersOf({ task: 'binary', rows: ROWS, curves });
      const same = (await against(await logs('same-answers', {}), { answers })).drift?.columns.find(({ of }) => of === 'output');
      expect(same).toMatchObject({ column: 'output[1]', rows: { training: ROWS, recent: ROWS }, exact: false });
      expect(same?.psi).toBeLessThan(1e-9);
      expect(same?.kolmogorovSmirnov?.statistic).toBeLessThan(1e-9);
      const surer = await against(await logs('surer', { line: (i) => ({ output: answerOf(inputsOf(i)).map((p) => p ** 3) }) }), { answers });
      expect(surer.drift?.columns[0]).toMatchObject({ column: 'output[1]', of: 'output' });
      expect(surer.drift?.columns[0]?.psi).toBeGreaterThan(0.5);
      const one = await against(await logs('one-output', { line: (i) => ({ output: answerOf(inputsOf(i)).slice(1) }) }), { answers });
      expect(one.drift?.columns.find(({ of }) => of === 'output')).toMatchObject({ column: 'output[0]', psi: same?.psi });
    });

    it('has the windows of the training rows, newest first, as long as a window or until they have enough rows', async () => {
      const { path } = await trained();
      const of = await logs('history', {});
      const windows = async (leastRows: number, rows?: number) =>
        (await against(of, { trained: { paths: [path], time: 'at', everyMs: 3_600_000, leastRows, most: 50, ...(rows === undefined ? {} : { rows }) } }))
          .trained;
      const hourly = await windows(100);
      expect(hourly).toHaveLength(50);
      expect(hourly?.slice(0, 2).map(({ from }) => from)).toEqual(['2000-12-05T23:00:00.000Z', '2000-12-05T22:00:00.000Z']);
      expect(hourly?.[0]?.columns.map(({ column }) => column).sort()).toEqual(['miles', 'origin', 'seats']);
      // 180 rows an hour
      expect((await windows(500))?.slice(0, 2).map(({ from }) => from)).toEqual(['2000-12-05T21:00:00.000Z', '2000-12-05T18:00:00.000Z']);
      expect((await windows(1, 360))?.slice(0, 2).map(({ from }) => from)).toEqual(['2000-12-05T22:00:00.000Z', '2000-12-05T20:00:00.000Z']);
    });
  });

  it('has the outcomes of its predictions by name, each request once', async () => {
    const outcome = (i: number, value: number, at = '2001-01-01T02:00:00.000Z') => ({ requestId: `r${String(i)}`, row: 0, outcome: 'cost', value, at });
    const { outcomes } = await measure(
      job(await logs('outcomes', { feedback: [outcome(1, 10), outcome(2, 20), outcome(2, 30, '2001-01-01T03:00:00.000Z'), outcome(999, 5)] })),
    );
    // normal interval: 20 ± 1.959964 × √(200/2)
    expect(outcomes).toMatchObject({ cost: { rows: 2, sum: 40, mean: 20 } });
    expect(outcomes?.['cost']?.low).toBeCloseTo(20 - 19.59964, 4);
  });

  it('checks expectations on the raw columns, and keeps no value of a request', async () => {
    const rules = expectations({ miles: [notNull(), between(0, 10)], seats: [between(null, 0.5)] });
    const { data } = await measure(
      job(await logs('data', { line: (i) => (i < 30 ? { inputs: { ...inputsOf(i), miles: null } } : {}) }), { expectations: rules }),
    );
    expect(data?.results.map(({ success, failing, sample }) => [success, failing, sample])).toEqual([
      [false, 30, []],
      [true, 0, []],
      [false, expect.any(Number), []],
    ]);
  });

  it('feeds detectors with each label once, in the order in which labels came, and goes on from their state', async () => {
    const of = await logs('detected', { feedback: labels });
    const rule = {
      name: 'errors',
      of: 'error' as const,
      options: { kind: 'ddm' as const, warmStart: 30, warningThreshold: 2, driftThreshold: 3 },
      state: null,
    };
    const first = await measure(job(of, { detectors: [rule] }));
    expect(first.detectors?.['errors']).toMatchObject({ values: ROWS, changes: 0, state: { kind: 'ddm', values: ROWS } });
    const next = await measure(
      job(of, { detectors: [{ ...rule, state: first.detectors?.['errors']?.state ?? null }], arrivedFrom: '2001-01-01T02:00:00.001Z' }),
    );
    expect(next.detectors?.['errors']).toEqual({ values: 0, changes: 0, state: first.detectors?.['errors']?.state });
  });
});

describe('logged requests that are scored again', () => {
  it('agree with the training path', async () => {
    const { skew } = await measure(job(await logs('agreed', {})));
    expect(skew).toMatchObject({ rows: 100, differing: 0, columns: [], example: null, why: null });
    expect(skew?.greatest).toBeLessThan(1e-5);
  });

  it('name the raw column that made the difference: another unit of one, a missing value of another', async () => {
    const unit = await measure(job(await logs('unit', { line: (i) => (i % 4 === 0 ? { output: answerOf(inputsOf(i), 0.5 / 1.609) } : {}) })));
    expect(unit.skew?.differing).toBeGreaterThan(10);
    expect(unit.skew?.columns.map(({ column: name }) => name)).toEqual(['miles']);
    expect(unit.skew?.example?.logged).not.toEqual(unit.skew?.example?.again);
    const text = await measure(job(await logs('text', { line: (i) => (i % 4 === 0 ? { output: answerOf({ ...inputsOf(i), origin: 'other' }) } : {}) })));
    expect(text.skew?.columns.map(({ column: name }) => name)).toEqual(['origin']);
  });

  it('are not compared where a request was logged without a raw column', async () => {
    const { skew } = await measure(job(await logs('short', { line: () => ({ inputs: { seats: 0.1 } }) })));
    expect(skew).toMatchObject({ rows: 0, differing: 0, why: 'no request of the window was logged with all raw columns' });
  });
});

describe('windows by count and late labels', () => {
  it('end just after their last row, and are not there before it', async () => {
    const { segments } = await logs('counted', {});
    const end = (rows: number) => withDuckDb({}, (db) => windowEnd(db, { segments, model: 'm', version: 1, from: FROM, until: TO, rows }));
    expect(await end(100)).toBe(new Date(Date.parse(FROM) + 99 * 10_000 + 1).toISOString());
    expect(await end(ROWS + 1)).toBeNull();
  });

  it('are looked at again only where something came since', async () => {
    const of = await logs('late', { feedback: [label(0, 'late', '2001-01-01T05:00:00.000Z'), label(200, 'late', '2001-01-01T05:00:00.000Z')] });
    const windows = [
      { from: FROM, to: '2001-01-01T00:30:00.000Z', since: '2001-01-01T04:00:00.000Z' },
      { from: '2001-01-01T00:30:00.000Z', to: TO, since: '2001-01-01T06:00:00.000Z' },
    ];
    expect(await withDuckDb({}, (db) => feedbackByWindow(db, { ...of, until: '2001-01-02T00:00:00.000Z', windows }))).toEqual([1, 0]);
  });
});
