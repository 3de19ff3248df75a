import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The project's key for hashed columns: `MILLRACE_HASH_KEY`, else a random one that is made once and kept in the state
 * folder, readable by its owner only. Machines that work on one project need the same one.
 */
export function projectHashKey(home: string, env: Readonly<Record<string, string | undefined>> = process.env): string {
  const given = env['MILLRACE_HASH_KEY'];
  if (given) return given;
  const file = join(home, 'hash.key');
  const read = (): string => readFileSync(file, 'utf8').trim();
  try {
    return read();
  } catch {
    mkdirSync(home, { recursive: true });
    const draft = `${file}.${process.pid}`;
    writeFileSync(draft, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
    try {
      linkSync(draft, file); // fails when another process was first: its key stands
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    } finally {
      rmSync(draft, { force: true });
    }
    return read();
  }
}
