import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { callValueStep } from '../../../activities/step-threads.ts';

let folder = '';
let module = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-steps-'));
  module = join(folder, 'steps.mjs');
  // as a built steps.ts is
  await writeFile(
    module,
    `import { isMainThread, threadId } from 'node:worker_threads';
     const value = (run) => ({ [Symbol.for('millrace.step')]: { kind: 'value', run } });
     export const where = value((n) => ({ n, isMainThread, threadId }));
     export const fails = value(() => { throw new TypeError('no such carrier'); });
     export const leaves = value(() => process.exit(3));
     export const hangs = value(() => { for (;;); });
     export const cyclic = value(() => { const a = {}; a.a = a; return a; });
     export const nothing = value(() => undefined);
     export const strays = value(() => new Promise(() => { setTimeout(() => { throw new Error('stray'); }, 1); }));`,
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const call = (step: string, args: readonly unknown[] = [], signal = new AbortController().signal): Promise<unknown> =>
  callValueStep({ module, pipeline: 'p', step, args }, { signal, log: () => undefined });

describe('a value step', () => {
  it('runs on a thread that is kept for the next one', async () => {
    const first = (await call('where', [1])) as { threadId: number };
    const second = await call('where', [2]);
    expect(first).toMatchObject({ n: 1, isMainThread: false });
    expect(second).toEqual({ n: 2, isMainThread: false, threadId: first.threadId });
  });

  it('runs beside others, each on a thread of its own', async () => {
    const all = (await Promise.all([1, 2, 3, 4, 5, 6].map((n) => call('where', [n])))) as { n: number; threadId: number }[];
    expect(all.map(({ n }) => n)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(new Set(all.map(({ threadId }) => threadId)).size).toBe(6);
  });

  it('gives null where it gives nothing', async () => {
    expect(await call('nothing')).toBeNull();
  });

  it.each([
    ['fails', 'The step fails threw TypeError: no such carrier'],
    ['leaves', 'The step leaves ended its thread with code 3 before it was done.'],
    ['cyclic', 'The step cyclic gave a value that is not JSON.'],
    ['strays', 'The step strays threw outside of what it returned: stray'],
  ])('that %s is an error of its own, and the next step is served', async (step, message) => {
    await expect(call(step)).rejects.toMatchObject({ code: 'USER_CODE_FAILED', message });
    expect(await call('where', [9])).toMatchObject({ n: 9 });
  });

  it('that never gives its thread back ends when it is cancelled', async () => {
    const stop = new AbortController();
    const hanging = call('hangs', [], stop.signal);
    setTimeout(() => {
      stop.abort(new Error('cancelled'));
    }, 50);
    await expect(hanging).rejects.toThrow('cancelled');
    expect(await call('where', [9])).toMatchObject({ n: 9 });
  });
});
