import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../config/package-root.ts';
import { acquireFileLock } from '../../../stack/file-lock.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-lock-'));
  path = join(folder, 'stack.lock');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A process that takes the lock, says whether it has it, and holds it until its stdin ends. */
function contender(): { answer: Promise<string>; kill(): Promise<void> } {
  const program = `import { acquireFileLock } from ${JSON.stringify(join(packageRoot, 'stack/file-lock.ts'))}; console.log(acquireFileLock(${JSON.stringify(path)}).acquired); process.stdin.resume();`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { cwd: packageRoot, stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = new Promise<void>((resolve) =>
    child.once('exit', () => {
      resolve();
    }),
  );
  return {
    answer: new Promise((resolve) =>
      child.stdout.once('data', (chunk: Buffer) => {
        resolve(chunk.toString().trim());
      }),
    ),
    kill: () => {
      child.kill('SIGKILL');
      return exit;
    },
  };
}

describe('a file lock', () => {
  it('is held by one, and free again when it is released', () => {
    const first = acquireFileLock(path);
    expect(first.acquired).toBe(true);
    expect(acquireFileLock(path)).toMatchObject({ acquired: false, owner: { pid: process.pid } });
    if (first.acquired) first.release();
    expect(readdirSync(folder)).toEqual([]);
    expect(acquireFileLock(path).acquired).toBe(true);
  });

  it('goes to exactly one of many when its holder was killed', async () => {
    const holder = contender();
    expect(await holder.answer).toBe('true');
    expect(acquireFileLock(path).acquired).toBe(false);
    await holder.kill();
    const contenders = Array.from({ length: 4 }, contender);
    try {
      const answers = await Promise.all(contenders.map((c) => c.answer));
      expect(answers.toSorted()).toEqual(['false', 'false', 'false', 'true']);
      expect(readdirSync(folder)).toEqual(['stack.lock']);
    } finally {
      await Promise.all(contenders.map((c) => c.kill()));
    }
  });
});
