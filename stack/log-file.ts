import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export interface LogFile {
  write(chunk: Uint8Array | string): void;
  close(): void;
}

/**
 * A log that never takes more than `keep + 1` times `maxBytes` on disk: when it is full, `x.log` becomes `x.log.1`,
 * that `x.log.2`, and so on. Failures to write (a full disk) are passed over: a log must not stop what it is about.
 */
export function openLogFile(path: string, options: { maxBytes?: number; keep?: number } = {}): LogFile {
  const { maxBytes = 10 * 1024 * 1024, keep = 3 } = options;
  mkdirSync(dirname(path), { recursive: true });
  let fd = openSync(path, 'a', 0o640);
  let size = fstatSync(fd).size;
  let closed = false;
  const rotate = (): void => {
    closeSync(fd);
    for (let i = keep - 1; i >= 1; i--) if (existsSync(`${path}.${i}`)) renameSync(`${path}.${i}`, `${path}.${i + 1}`);
    renameSync(path, `${path}.1`);
    fd = openSync(path, 'a', 0o640);
    size = 0;
  };
  return {
    write(chunk) {
      if (closed) return;
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
      try {
        if (size > 0 && size + bytes.byteLength > maxBytes) rotate();
        writeSync(fd, bytes);
        size += bytes.byteLength;
      } catch {
        // see above
      }
    },
    close() {
      if (!closed) closeSync(fd);
      closed = true;
    },
  };
}

/** The last lines of a log, oldest first; empty when there is none. */
export function lastLogLines(path: string, count: number): readonly string[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-count);
}
