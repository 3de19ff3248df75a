import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Artifacts, createArtifacts, openArtifacts } from '../../../store/artifacts.ts';

let folder: string;
let artifacts: Artifacts;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-artifacts-'));
  artifacts = await openArtifacts(join(folder, 'store'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const sha = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const temporaryFiles = () => readdir(join(artifacts.root, 'tmp'));

/** Overwrites an artifact in place, as a damaged disk or a careless hand does. */
async function damage(path: string, content: string): Promise<void> {
  await chmod(path, 0o644);
  await writeFile(path, content);
}

describe('artifacts', () => {
  it('lie under their SHA-256, read-only, and the same content is one file', async () => {
    const first = await artifacts.putBytes(Buffer.from('hello'));
    expect(first).toEqual({ sha256: sha('hello'), sizeBytes: 5 });
    const path = await artifacts.pathOf(first.sha256);
    expect(path).toBe(join(artifacts.root, 'sha256', first.sha256.slice(0, 2), first.sha256.slice(2)));
    const { ino, mode } = await stat(path);
    expect(mode & 0o777).toBe(0o444);
    await artifacts.putBytes(Buffer.from('hello'));
    expect((await stat(path)).ino).toBe(ino);
    expect(await temporaryFiles()).toEqual([]);
  });

  it('takes a file of its own in by moving it, and any other by copying it', async () => {
    const own = await artifacts.temporaryFile('.parquet');
    expect(own.endsWith('.parquet')).toBe(true);
    await writeFile(own, 'own');
    const { ino } = await stat(own);
    const moved = await artifacts.putFile(own);
    expect((await stat(await artifacts.pathOf(moved.sha256))).ino).toBe(ino);
    await expect(stat(own)).rejects.toMatchObject({ code: 'ENOENT' });

    const other = join(folder, 'other.bin');
    const bytes = Buffer.alloc(3_000_000, 7);
    await writeFile(other, bytes);
    expect(await artifacts.putFile(other)).toEqual({ sha256: sha(bytes), sizeBytes: 3_000_000 });
    expect((await readFile(other)).equals(bytes)).toBe(true);
    await expect(artifacts.putFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' });
  });

  it('names equal JSON values alike, whatever the order of their keys', async () => {
    const { sha256 } = await artifacts.putJson({ b: [1, 2], a: { y: 1, x: 'é' } });
    expect((await artifacts.putJson({ a: { x: 'é', y: 1 }, b: [1, 2] })).sha256).toBe(sha256);
    expect(await artifacts.getJson(sha256)).toEqual({ a: { x: 'é', y: 1 }, b: [1, 2] });
    expect(await artifacts.getBytes(sha256)).toEqual(Buffer.from('{"a":{"x":"é","y":1},"b":[1,2]}'));
  });

  it('are the same when many put them at once', async () => {
    const made = await Promise.all(Array.from({ length: 8 }, () => artifacts.putBytes(Buffer.from('at once'))));
    expect(new Set(made.map((m) => m.sha256))).toEqual(new Set([sha('at once')]));
    expect((await artifacts.getBytes(sha('at once'))).toString()).toBe('at once');
    expect(await temporaryFiles()).toEqual([]);
  });

  it('are refused when their content was changed, also after they had been found good', async () => {
    const { sha256 } = await artifacts.putBytes(Buffer.from('genuine'));
    const path = await artifacts.pathOf(sha256);
    await damage(path, 'forged!');
    await expect(artifacts.pathOf(sha256)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    await expect(createArtifacts({ root: artifacts.root }).getBytes(sha256)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    expect(await artifacts.has(sha256)).toBe(false);
    // The same size and the same modification time do not hide it.
    const { sha256: second } = await artifacts.putBytes(Buffer.from('genuine 2'));
    const secondPath = await artifacts.pathOf(second);
    const { atime, mtime } = await stat(secondPath);
    await damage(secondPath, 'forged! 2');
    await utimes(secondPath, atime, mtime);
    await expect(artifacts.getBytes(second)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
  });

  it('are healed by putting the right content again', async () => {
    const { sha256 } = await artifacts.putBytes(Buffer.from('healed'));
    await damage(await artifacts.pathOf(sha256), 'broken');
    await artifacts.putBytes(Buffer.from('healed'));
    expect((await artifacts.getBytes(sha256)).toString()).toBe('healed');
  });

  it('that are not there or not named by a hash are said so, and nothing outside of the store is read', async () => {
    await expect(artifacts.pathOf('0'.repeat(64))).rejects.toMatchObject({ code: 'ARTIFACT_MISSING' });
    expect(await artifacts.has('0'.repeat(64))).toBe(false);
    await expect(artifacts.pathOf('../../../etc/passwd')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    const { sha256 } = await artifacts.putBytes(Buffer.from('no JSON'));
    await expect(artifacts.getJson(sha256)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
  });

  it('can be read by one who may not write, and before anything was put', async () => {
    const reader = createArtifacts({ root: join(folder, 'nowhere') });
    await expect(reader.getBytes('0'.repeat(64))).rejects.toMatchObject({ code: 'ARTIFACT_MISSING' });
    expect(await reader.cleanTemporary(0)).toBe(0);
    await expect(stat(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('loses temporary files of processes that have ended, however young, and no others', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', 'setInterval(() => {}, 1000)']);
    const mine = await artifacts.temporaryFile('.mine');
    const of = (pid: number | undefined): string => mine.replace(`-${String(process.pid)}-`, `-${String(pid)}-`);
    const elsewhere = join(artifacts.root, 'tmp', `0123456789ab-${String(child.pid)}-x.part`);
    const earlier = await artifacts.temporaryFile('.earlier');
    try {
      await Promise.all([mine, of(child.pid), elsewhere, earlier].map((path) => writeFile(path, 'x')));
      const before = Date.now() / 1_000 - process.uptime() - 60;
      await utimes(earlier, before, before);
      expect(await artifacts.cleanAbandoned()).toBe(1);
      await expect(stat(earlier)).rejects.toMatchObject({ code: 'ENOENT' });
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
      expect(await artifacts.cleanAbandoned()).toBe(1);
      expect((await temporaryFiles()).sort()).toEqual([basename(mine), basename(elsewhere)].sort());
    } finally {
      child.kill('SIGKILL');
      await Promise.all([mine, elsewhere].map((path) => rm(path, { force: true })));
    }
  });

  it('loses old temporary files only', async () => {
    const [old, fresh] = [await artifacts.temporaryFile('.old'), await artifacts.temporaryFile('.fresh')];
    await Promise.all([old, fresh].map((path) => writeFile(path, 'x')));
    const hourAgo = Date.now() / 1_000 - 3_600;
    await utimes(old, hourAgo, hourAgo);
    expect(await artifacts.cleanTemporary(60_000)).toBe(1);
    expect(await temporaryFiles()).toEqual([fresh.split('/').at(-1)]);
    await rm(fresh);
  });
});

/** A disk of 1 MiB, when this machine lets us have one. */
function smallDisk(at: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

it('says DISK_FULL on a full disk, and leaves neither a half artifact nor a temporary file', async (context) => {
  const at = join(folder, 'small');
  await mkdir(at);
  if (!smallDisk(at)) context.skip('mounting a small disk needs root');
  onTestFinished(() => void execFileSync('umount', [at]));
  const small = await openArtifacts(at);
  const kept = await small.putBytes(Buffer.from('small'));
  await expect(small.putBytes(Buffer.alloc(4 << 20, 1))).rejects.toMatchObject({ code: 'DISK_FULL' });
  const big = join(folder, 'big.bin');
  await writeFile(big, Buffer.alloc(4 << 20, 2));
  await expect(small.putFile(big)).rejects.toMatchObject({ code: 'DISK_FULL' });
  expect(await readdir(join(at, 'tmp'))).toEqual([]);
  expect(await readdir(join(at, 'sha256'))).toEqual([kept.sha256.slice(0, 2)]);
  expect((await small.getBytes(kept.sha256)).toString()).toBe('small');
});
