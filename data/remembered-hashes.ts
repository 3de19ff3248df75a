/**
 * Hashes of local files, remembered from one ingest to the next, so that a file that has not changed is not read again.
 *
 * Invariants:
 * 1. A hash is remembered only with what changes when the file does (inode, size, times of content and of entry), taken
 *    before and after it was read.
 * 2. A file that changed in the last moments is not remembered: it may change again within one tick of its clock.
 * 3. What is remembered is a help: it may be lost at any time.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { malformed } from './source-errors.ts';
import type { SourceFile } from './source-files.ts';

/** Sources of many small files wait for the disk, not for the hash. */
const FILES_AT_ONCE = 16;
const CHUNK_BYTES = 1 << 20;
const SETTLED_MS = 2_000;
const MOST_REMEMBERED = 200_000;

const MemorySchema = z.record(z.string(), z.object({ identity: z.string(), sha256: z.string() }));
type Memory = z.infer<typeof MemorySchema>;

/** How much of which file was read, 0 … 1. */
export type OnRead = (label: string, fraction: number) => void;

/**
 * SHA-256 of each file, in order. Streams; reads each file once, and none that is remembered under `home`.
 * `onRead` hears of each file while it is read, with the share of it that was read.
 * @throws MillraceError SOURCE_MALFORMED where a file changes while it is read
 */
export async function hashFiles(files: readonly SourceFile[], home: string | undefined, signal?: AbortSignal, onRead?: OnRead): Promise<readonly string[]> {
  const path = home === undefined ? undefined : join(home, 'source-hashes', `${keyOf(files)}.json`);
  const before = path === undefined ? {} : await recall(path);
  const after: Memory = {};
  const hashes: string[] = [];
  let read = 0;
  for (let from = 0; from < files.length; from += FILES_AT_ONCE) {
    const batch = files.slice(from, from + FILES_AT_ONCE);
    hashes.push(
      ...(await Promise.all(
        batch.map(async (file) => {
          const identity = await identityOf(file.path);
          const known = before[file.path];
          if (known?.identity === identity.text) {
            after[file.path] = known;
            return known.sha256;
          }
          read++;
          const sha256 = await hashFile(file.path, signal, (fraction) => onRead?.(file.label, fraction));
          const now = await identityOf(file.path);
          if (now.text !== identity.text)
            throw malformed('The file changed while it was read', { file: file.label, fix: 'Ingest again when nothing writes to it.' });
          if (Date.now() - identity.changedMs >= SETTLED_MS) after[file.path] = { identity: identity.text, sha256 };
          return sha256;
        }),
      )),
    );
  }
  if (path !== undefined && read > 0) await remember(path, merged(before, after));
  return hashes;
}

/** Sources of one folder share a memory: what another one remembers there stays, as long as it is not too much. */
function merged(before: Memory, after: Memory): Memory {
  return Object.keys(before).length + Object.keys(after).length > MOST_REMEMBERED ? after : { ...before, ...after };
}

/** A memory is named by the folder of the first file, so that it stays when files are added. */
function keyOf(files: readonly SourceFile[]): string {
  return createHash('sha256')
    .update(dirname(files[0]?.path ?? ''))
    .digest('hex')
    .slice(0, 32);
}

async function identityOf(path: string): Promise<{ readonly text: string; readonly changedMs: number }> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  const changedNs = mtimeNs > ctimeNs ? mtimeNs : ctimeNs;
  return { text: `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`, changedMs: Number(changedNs / 1_000_000n) };
}

async function recall(path: string): Promise<Memory> {
  try {
    return MemorySchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return {};
  }
}

async function remember(path: string, memory: Memory): Promise<void> {
  const draft = `${path}.${randomUUID()}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(draft, JSON.stringify(memory), { mode: 0o600 });
    await rename(draft, path);
  } catch {
    // It is read again next time.
    await rm(draft, { force: true }).catch(() => undefined);
  }
}

async function hashFile(path: string, signal: AbortSignal | undefined, onRead: (fraction: number) => void): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size + 1));
    for (let read = 0; ; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(chunk, 0, chunk.length);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(chunk.subarray(0, bytesRead));
      read += bytesRead;
      onRead(size === 0 ? 1 : Math.min(1, read / size));
    }
  } finally {
    await file.close();
  }
}
