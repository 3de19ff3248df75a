import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const CI_RUN = fileURLToPath(new URL('../../.ci/run', import.meta.url));

// What stands in for npm only says what it was asked for, and fails where it is told to: what is tried here is the order of
// the steps and what the script makes of their failing. The steps have gates.test.ts and test-runner.test.ts.
describe('.ci/run', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-ci-'));
    writeFileSync(
      join(folder, 'npm'),
      `#!/usr/bin/env bash
echo "npm $* (CI=$CI)"
case "$*" in
  *test) [ -z "$COUNT" ] || echo "$COUNT" ;;
esac
case "$*" in
  $FAILS) echo 'npm error' >&2; exit 7 ;;
esac
`,
    );
    chmodSync(join(folder, 'npm'), 0o755);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function ci(fails: string, count: string): Promise<{ readonly exitCode: number; readonly lines: readonly string[] }> {
    const env = { ...process.env, PATH: `${folder}:${process.env.PATH ?? ''}`, FAILS: fails, COUNT: count };
    return new Promise((resolve) => {
      execFile(CI_RUN, { env }, (error, stdout) => {
        resolve({ exitCode: error === null ? 0 : Number(error.code), lines: stdout.trimEnd().split('\n') });
      });
    });
  }

  test('installs, checks, builds, tests, and ends with the count', async () => {
    expect(await ci('nothing', '9 passed, 0 failed, 1 skipped')).toEqual({
      exitCode: 0,
      lines: [
        'npm ci --no-audit --no-fund (CI=true)',
        'npm run verify -- --static (CI=true)',
        'npm run build (CI=true)',
        'npm --silent test (CI=true)',
        '9 passed, 0 failed, 1 skipped',
      ],
    });
  });

  test('ends with the count of failed tests and their exit code', async () => {
    const { exitCode, lines } = await ci('*test', '8 passed, 1 failed, 1 skipped');
    expect({ exitCode, last: lines.at(-1) }).toEqual({ exitCode: 7, last: '8 passed, 1 failed, 1 skipped' });
  });

  test.each([
    ['the installation fails', 'ci*', '', 1],
    ['a static check fails', '*verify*', '', 2],
    ['the build fails', '*build', '', 3],
  ])('counts one failure when %s, and starts nothing after it', async (_what, fails, count, steps) => {
    const { exitCode, lines } = await ci(fails, count);
    expect({ exitCode, last: lines.at(-1) }).toEqual({ exitCode: 1, last: '0 passed, 1 failed, 0 skipped' });
    expect(lines.filter((line) => line.startsWith('npm ') && line.endsWith('(CI=true)'))).toHaveLength(steps);
  });
});
