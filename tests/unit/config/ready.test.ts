import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isReadyFileFresh, parseReadyLine, READY_FILE_MAX_AGE_MS } from '../../../config/ready.ts';
import { packageRoot } from '../../../config/package-root.ts';

describe('a process that is ready', () => {
  it('prints one line that can be told from all others, and touches its file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-ready-'));
    try {
      const file = join(folder, 'ready');
      const program = `import { announceReady } from ${JSON.stringify(join(packageRoot, 'config/ready.ts'))}; announceReady({ name: 'cpu-worker', slots: 2 });`;
      const output = execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
        cwd: packageRoot,
        encoding: 'utf8',
        env: { ...process.env, MILLRACE_READY_FILE: file },
      });
      expect(parseReadyLine(output.trim())).toEqual({ name: 'cpu-worker', slots: 2 });
      expect(isReadyFileFresh(file, Date.now())).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each(['', 'ready', '{"ready":true', '{"ready":true}', '{"ready":false,"name":"x"}', '{"progress":1}'])('is not announced by the line %j', (line) => {
    expect(parseReadyLine(line)).toBeUndefined();
  });

  it('is not healthy any more when its file grew old or is not there', () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-ready-'));
    try {
      const file = join(folder, 'ready');
      expect(isReadyFileFresh(file, Date.now())).toBe(false);
      writeFileSync(file, '');
      utimesSync(file, 1_000, 1_000);
      expect(isReadyFileFresh(file, 1_000_000 + READY_FILE_MAX_AGE_MS - 1)).toBe(true);
      expect(isReadyFileFresh(file, 1_000_000 + READY_FILE_MAX_AGE_MS)).toBe(false);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
