import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 120_000;
const PASSES = "import { expect, test } from 'vitest';\ntest('one', () => expect(1).toBe(1));\ntest('two', () => expect(2).toBe(2));\n";

interface Outcome {
  readonly exitCode: number;
  readonly lastLine: string;
  readonly output: string;
}

describe('npm test, tried on a small project of tests', () => {
  let project: string;
  beforeEach(() => {
    project = mkdtempSync(join(tmpdir(), 'millrace-runner-'));
    symlinkSync(join(ROOT, 'node_modules'), join(project, 'node_modules'));
    writeFileSync(join(project, 'vitest.config.mjs'), "export default { test: { include: ['tests/*.test.js'], pool: 'forks', maxWorkers: 1 } };\n");
    mkdirSync(join(project, 'tests'));
  });
  afterEach(() => rmSync(project, { recursive: true, force: true }));

  function runTests(files: Readonly<Record<string, string>>, env: NodeJS.ProcessEnv = { CI: '' }, ...args: string[]): Promise<Outcome> {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(project, 'tests', `${name}.test.js`), text);
    const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST') && name !== 'FORCE_COLOR'));
    return new Promise((resolve) => {
      const options = { env: { ...own, NO_COLOR: '1', ...env }, maxBuffer: 1 << 26 };
      execFile(process.execPath, [join(ROOT, 'scripts/test.mjs'), '--root', project, ...args], options, (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ exitCode, lastLine: stdout.trimEnd().split('\n').at(-1) ?? '', output: stdout + stderr });
      });
    });
  }

  test(
    'ends with the count of passed tests, and narrows to the files it is given',
    async () => {
      expect(await runTests({ good: PASSES, other: PASSES }, { CI: '' }, 'good')).toMatchObject({ exitCode: 0, lastLine: '2 passed, 0 failed, 0 skipped' });
    },
    TIMEOUT_MS,
  );

  test(
    'counts a failed test, a file that cannot be loaded and a set-up that throws, and exits non-zero',
    async () => {
      const { exitCode, lastLine, output } = await runTests({
        good: PASSES,
        fails: "import { expect, test } from 'vitest';\ntest('planted', () => expect(1).toBe(2));\n",
        broken: "import './not-there.js';\n",
        setup: "import { beforeAll, test } from 'vitest';\nbeforeAll(() => { throw new Error('no server'); });\ntest('never', () => undefined);\n",
      });
      expect({ exitCode, lastLine }).toEqual({ exitCode: 1, lastLine: '2 passed, 3 failed, 1 skipped' });
      expect(output).toMatch(/Failed outside of a test:(\n {2}.*(broken|setup)\.test\.js){2}/);
    },
    TIMEOUT_MS,
  );

  test(
    'fails on an error that nobody caught, although each test passed',
    async () => {
      const stray = `${PASSES}test('stray', async () => {\n  void Promise.reject(new Error('planted'));\n  await new Promise((done) => setTimeout(done, 50));\n});\n`;
      expect(await runTests({ stray })).toMatchObject({ exitCode: 1, lastLine: '3 passed, 1 failed, 0 skipped' });
    },
    TIMEOUT_MS,
  );

  test(
    'fails when no test ran',
    async () => {
      expect(await runTests({})).toMatchObject({ exitCode: 1, lastLine: '0 passed, 1 failed, 0 skipped' });
    },
    TIMEOUT_MS,
  );

  test(
    'lets a test be skipped for the lack of a GPU everywhere, and for another reason outside of CI only',
    async () => {
      const skips = `${PASSES}test.skip('trains on a device [needs GPU]', () => undefined);\n`;
      expect(await runTests({ skips }, { CI: 'true' })).toMatchObject({ exitCode: 0, lastLine: '2 passed, 0 failed, 1 skipped' });
      const lazy = `${PASSES}test.skip('draws a page [needs Chromium]', () => undefined);\n`;
      expect(await runTests({ lazy }, { CI: '' }, 'lazy')).toMatchObject({ exitCode: 0, lastLine: '2 passed, 0 failed, 1 skipped' });
      const inCi = await runTests({}, { CI: 'true' }, 'lazy');
      expect(inCi).toMatchObject({ exitCode: 1, lastLine: '2 passed, 1 failed, 0 skipped' });
      expect(inCi.output).toContain('draws a page [needs Chromium]');
    },
    TIMEOUT_MS,
  );
});
