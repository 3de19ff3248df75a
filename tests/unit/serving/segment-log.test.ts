import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createSegmentLog } from '../../../serving/segment-log.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-segments-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});
const quiet = (): void => undefined;

async function read(name: string): Promise<string> {
  const files = await readdir(join(folder, name));
  expect(files.every((file) => /^\d{4}-\d\d-\d\dT\d\d-me\.jsonl$/.test(file))).toBe(true);
  return (await Promise.all(files.sort().map((file) => readFile(join(folder, name, file), 'utf8')))).join('');
}

test('lines stand in their file, in order, after a flush and after a close', async () => {
  const log = createSegmentLog({ folder, serverId: 'me', log: quiet, flushEveryMs: 60_000 });
  log.append('a', '{"n":1}\n');
  log.append('b', '{"text":"ü €"}\n');
  await log.flush();
  expect([await read('a'), await read('b')]).toEqual(['{"n":1}\n', '{"text":"ü €"}\n']);
  log.append('a', '{"n":2}\n');
  await log.close();
  expect(await read('a')).toBe('{"n":1}\n{"n":2}\n');
  expect([log.writtenLines, log.droppedLines, log.bufferedBytes]).toEqual([3, 0, 0]);
});

test('lines of more bytes than a chunk are kept whole', async () => {
  const log = createSegmentLog({ folder, serverId: 'me', log: quiet, flushEveryMs: 60_000 });
  const lines = [`${'ü'.repeat(300_000)}\n`, 'short\n', ...Array.from({ length: 5_000 }, (_, i) => `${i} ${'x'.repeat(100)}\n`)];
  for (const line of lines) expect(log.append('a', line)).toBe(true);
  await log.close();
  expect(await read('a')).toBe(lines.join(''));
});

test('a full buffer drops lines and counts them, and takes new ones after a flush', async () => {
  const log = createSegmentLog({ folder, serverId: 'me', log: quiet, flushEveryMs: 60_000, maxBufferedBytes: 1_000 });
  const taken = Array.from({ length: 100 }, () => log.append('a', `${'x'.repeat(99)}\n`)).filter(Boolean).length;
  expect(taken).toBeGreaterThan(0);
  expect(log.droppedLines).toBe(100 - taken);
  await log.flush();
  expect(log.append('a', 'again\n')).toBe(true);
  await log.close();
  expect((await read('a')).split('\n')).toHaveLength(taken + 2);
});

test('a folder that cannot be made drops its lines, counted and told once, and other files go on', async () => {
  await writeFile(join(folder, 'a'), 'a file where a folder should be');
  const told: string[] = [];
  const log = createSegmentLog({ folder, serverId: 'me', log: (level) => told.push(level), flushEveryMs: 60_000 });
  for (let i = 0; i < 3; i += 1) {
    log.append('a', 'lost\n');
    await log.flush();
  }
  log.append('b', 'kept\n');
  await log.close();
  expect(log.droppedLines).toBe(3);
  expect(told.filter((level) => level === 'error')).toHaveLength(1);
  expect(await read('b')).toBe('kept\n');
});

test('a file that is full is followed by another one of the same hour, also after a pause, and no line is split', async () => {
  const log = createSegmentLog({ folder, serverId: 'me', log: quiet, flushEveryMs: 60_000, maxFileBytes: 1_000 });
  const lines = Array.from({ length: 30 }, (_, i) => `${i} ${'x'.repeat(95)}\n`);
  for (const line of lines) {
    log.append('a', line);
    await log.flush();
  }
  await log.close();
  const again = createSegmentLog({ folder, serverId: 'me', log: quiet, flushEveryMs: 60_000, maxFileBytes: 1_000 });
  again.append('a', 'last\n');
  await again.close();
  const files = await readdir(join(folder, 'a'));
  const parts = files.map((name) => Number(/-me(?:-(\d+))?\.jsonl$/.exec(name)?.[1] ?? 1));
  expect(parts.length).toBeGreaterThanOrEqual(3);
  const texts = await Promise.all(files.map((name) => readFile(join(folder, 'a', name), 'utf8')));
  expect(texts.every((text) => text.endsWith('\n') && text.length < 1_100)).toBe(true);
  expect(new Set(texts.join('').split('\n'))).toEqual(new Set([...lines, 'last\n', '\n'].map((line) => line.trimEnd())));
});
