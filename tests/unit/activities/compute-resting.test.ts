/** Threads that have measured a window and wait for the next one. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { compute } from '../../../activities/compute-job.ts';
import type { MeasuredWindow, MonitorJob } from '../../../activities/monitor-job.ts';
import { FLIGHT_SIGNATURE } from '../../support/serving-fixture.ts';

const PATIENCE = { timeout: 60_000, interval: 20 };
const FROM = '2001-01-01T00:00:00.000Z';

let folder: string;
/** Those that were started in a test; the newest last. */
let started: Worker[] = [];
const ended = new Set<Worker>();
const onWorker = (worker: Worker): void => {
  started.push(worker);
  worker.once('exit', () => ended.add(worker));
};
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-compute-resting-'));
  process.on('worker', onWorker);
});
beforeEach(() => {
  started = [];
});
/** No thread of one test waits for the next test. */
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(started.map((worker) => worker.terminate()));
});
afterAll(async () => {
  process.off('worker', onWorker);
  await rm(folder, { recursive: true, force: true });
});

async function log(rows: number): Promise<MonitorJob['segments']> {
  const path = join(folder, `${String(rows)}.jsonl`);
  const line = (i: number): string =>
    JSON.stringify({ requestId: `r${String(i)}`, row: 0, at: FROM, model: 'm', version: 1, challenger: false, inputs: {}, output: [0.5], latencyMs: 1 });
  await writeFile(path, Array.from({ length: rows }, (_, i) => `${line(i)}\n`).join(''));
  return [{ path, format: 'jsonl', identity: String(rows) }];
}

function window(segments: MonitorJob['segments'], signal = new AbortController().signal): Promise<MeasuredWindow> {
  const job: MonitorJob = {
    kind: 'monitor',
    model: 'm',
    version: 1,
    from: FROM,
    to: '2001-01-01T01:00:00.000Z',
    segments,
    feedback: [],
    feedbackUntil: FROM,
    predictor: {
      format: 'millrace-predictor/1',
      onnx: 'a'.repeat(64),
      onnxSizeBytes: 1,
      signature: FLIGHT_SIGNATURE,
      trainer: { name: 'test', parameters: {} },
      trainingProfile: null,
      sample: { rows: [], output: [] },
      importance: [],
      unserved: {},
      lookups: [],
    },
    quality: false,
    metrics: [],
    whole: null,
  };
  return compute(job, { signal, progress: () => undefined, log: () => undefined });
}

it('the thread of a small window measures the next one, and so on; one of a large window is ended', async () => {
  const [small, large] = [await log(50), await log(20_001)];
  for (let i = 0; i < 3; i++) expect((await window(small)).rows).toBe(50);
  expect(started).toHaveLength(1);
  expect((await window(large)).rows).toBe(20_001);
  expect(started).toHaveLength(1);
  await vi.waitUntil(() => ended.has(started[0] as Worker), PATIENCE);
  expect((await window(small)).rows).toBe(50);
  expect(started).toHaveLength(2);
});

it('windows at once have a thread each, of which two wait', async () => {
  const small = await log(50);
  await Promise.all([window(small), window(small), window(small)]);
  expect(started).toHaveLength(3);
  await vi.waitUntil(() => started.filter((worker) => ended.has(worker)).length === 1, PATIENCE);
  await Promise.all([window(small), window(small)]);
  expect(started).toHaveLength(3);
});

it('a window that is cancelled, or fails, ends its thread, and the next one has another', async () => {
  const small = await log(50);
  await window(small);
  const stop = new AbortController();
  const cancelled = window(small, stop.signal);
  stop.abort(new Error('cancelled'));
  await expect(cancelled).rejects.toThrow('cancelled');
  expect(started).toHaveLength(1);
  await vi.waitUntil(() => ended.has(started[0] as Worker), PATIENCE);

  await window(small);
  expect(started).toHaveLength(2);
  await expect(window([{ path: join(folder, 'none.jsonl'), format: 'jsonl', identity: 'none' }])).rejects.toMatchObject({ code: 'INTERNAL' });
  await vi.waitUntil(() => ended.has(started[1] as Worker), PATIENCE);
  await window(small);
  expect(started).toHaveLength(3);
});

it('a thread that dies with a window is told of; one that dies while it waits is not missed', async () => {
  const small = await log(50);
  await window(small);
  const failing = window(small);
  await (started[0] as Worker).terminate();
  await expect(failing).rejects.toThrow('ended with code 1 before it was done');

  await window(small);
  await (started[1] as Worker).terminate();
  expect((await window(small)).rows).toBe(50);
  expect(started).toHaveLength(3);
});

it('a thread waits for half a minute', async () => {
  const small = await log(50);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  await window(small);
  vi.advanceTimersByTime(29_000);
  await window(small);
  expect(started).toHaveLength(1);
  vi.advanceTimersByTime(29_000);
  await window(small);
  expect(started).toHaveLength(1);
  vi.advanceTimersByTime(30_000);
  vi.useRealTimers();
  await vi.waitUntil(() => ended.has(started[0] as Worker), PATIENCE);
});
