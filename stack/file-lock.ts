/**
 * A lock on disk that outlives nobody: it belongs to one process, and is free when that process is gone.
 *
 * Invariants:
 * 1. The file appears with its whole content at once (a link to a finished file), so a reader never sees half of it.
 * 2. Only who holds the lock named after a dead owner's token may take that owner's place: of two that find a stale lock, one wins.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { identifyProcess, isRunning, type ProcessIdentity } from './process-identity.ts';

interface LockContent extends ProcessIdentity {
  readonly token: string;
}

export type LockResult = { readonly acquired: true; release(): void } | { readonly acquired: false; readonly owner: ProcessIdentity };

function read(path: string): LockContent | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as LockContent;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Takes the lock at `path` for this process, or says who holds it. Never waits. */
export function acquireFileLock(path: string): LockResult {
  const self = identifyProcess(process.pid) ?? { pid: process.pid, started: '' };
  const token = randomBytes(8).toString('hex');
  const temporary = `${path}.${process.pid}-${token}`;
  mkdirSync(dirname(path), { recursive: true });
  const write = (): void => {
    writeFileSync(temporary, JSON.stringify({ ...self, token } satisfies LockContent), { mode: 0o644 });
  };
  const release = (): void => {
    if (read(path)?.token === token) rmSync(path, { force: true });
  };
  write();
  try {
    for (;;) {
      try {
        linkSync(temporary, path);
        return { acquired: true, release };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const owner = read(path);
      if (owner === undefined) continue;
      if (isRunning(owner)) return { acquired: false, owner };
      const succession = acquireFileLock(`${path}.${owner.token}`);
      if (!succession.acquired) return succession;
      try {
        if (read(path)?.token === owner.token) {
          renameSync(temporary, path);
          return { acquired: true, release };
        }
      } finally {
        succession.release();
      }
    }
  } finally {
    rmSync(temporary, { force: true });
  }
}
