import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 120_000;

interface Outcome {
  readonly exitCode: number;
  readonly output: string;
}

/** Runs a program of this project in `cwd` and returns what it said. Colour and the surrounding vitest are kept out of it. */
function run(cwd: string, script: string, ...args: string[]): Promise<Outcome> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST') && name !== 'FORCE_COLOR'));
  return new Promise((resolve) => {
    execFile(process.execPath, [join(ROOT, script), ...args], { cwd, env: { ...env, NO_COLOR: '1' }, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      resolve({ exitCode: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, output: stdout + stderr });
    });
  });
}

// Each gate of `npm run verify` is tried on a small project with this project's own settings: it must find the one planted
// fault, and nothing in the files that are as they should be. (The arrows between folders have boundaries.test.ts, the error table errors.test.ts.)
describe('the gate for', () => {
  let project: string;
  const write = (path: string, text: string): void => {
    mkdirSync(join(project, dirname(path)), { recursive: true });
    writeFileSync(join(project, path), text);
  };

  beforeEach(() => {
    project = mkdtempSync(join(tmpdir(), 'millrace-gate-'));
    for (const file of ['package.json', 'tsconfig.json', 'biome.json', 'knip.json', 'eslint.config.js', '.gitignore'])
      copyFileSync(join(ROOT, file), join(project, file));
    symlinkSync(join(ROOT, 'node_modules'), join(project, 'node_modules'));
    write('workflows/steps.ts', 'export const names: readonly string[] = [];\n');
    write(
      'workflows/index.ts',
      `import { proxyActivities } from '@temporalio/workflow';
import { names } from './steps.ts';

const { publish } = proxyActivities<{ publish(name: string): Promise<void> }>({ startToCloseTimeout: '1 minute' });

/** Publishes each name, one after the other. */
export async function publishAll(): Promise<number> {
  for (const name of names) await publish(name);
  return names.length;
}
`,
    );
  });
  afterEach(() => rmSync(project, { recursive: true, force: true }));

  test(
    'format passes what Biome wrote, and stops at a file that it would write otherwise',
    async () => {
      write('workflows/planted.ts', 'export const x = {a:1}\n');
      const { exitCode, output } = await run(project, 'node_modules/@biomejs/biome/bin/biome', 'format', 'workflows');
      expect(exitCode).not.toBe(0);
      expect(output.match(/workflows\/[\w-]+\.ts/g)).toEqual(['workflows/planted.ts']);
    },
    TIMEOUT_MS,
  );

  test(
    'lint passes an awaited activity, and stops at one whose `await` was lost',
    async () => {
      write(
        'workflows/planted.ts',
        `import { proxyActivities } from '@temporalio/workflow';

const { publish } = proxyActivities<{ publish(name: string): Promise<void> }>({ startToCloseTimeout: '1 minute' });

export async function lost(): Promise<void> {
  await publish('first');
  publish('second');
}
`,
      );
      const { exitCode, output } = await run(project, 'node_modules/eslint/bin/eslint.js', 'workflows', '--max-warnings', '0');
      expect(exitCode).toBe(1);
      expect(output.match(/@typescript-eslint\/[\w-]+/g)).toEqual(['@typescript-eslint/no-floating-promises']);
    },
    TIMEOUT_MS,
  );

  test(
    'types stops at a possibly missing element',
    async () => {
      write('workflows/planted.ts', "import { names } from './steps.ts';\n\nexport const first: string = names[0];\n");
      const { exitCode, output } = await run(project, 'node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', '--noEmit');
      expect(exitCode).not.toBe(0);
      expect(output.match(/^\S.*/gm)).toEqual([expect.stringMatching(/^workflows\/planted\.ts.*TS2322/)]);
    },
    TIMEOUT_MS,
  );

  test(
    'dead code stops at a file and at an export that nobody uses',
    async () => {
      const deadCode = (): Promise<Outcome> => run(project, 'node_modules/knip/bin/knip.js', '--no-progress', '--include', 'files,exports');
      expect((await deadCode()).output).not.toMatch(/Unused (files|exports)/);
      write('workflows/planted.ts', 'export const nobody = 1;\n');
      write('workflows/steps.ts', 'export const names: readonly string[] = [];\nexport const forgotten = 1;\n');
      const { exitCode, output } = await deadCode();
      expect(exitCode).not.toBe(0);
      expect(output).toMatch(/Unused files \(1\)\s+workflows\/planted\.ts/);
      expect(output).toMatch(/Unused exports \(1\)\s+forgotten/);
    },
    TIMEOUT_MS,
  );

  test(
    'the workflow bundle passes and stops at an import that the sandbox refuses, through a third file too',
    async () => {
      const bundle = (): Promise<Outcome> => run(project, 'scripts/bundle.mjs', project);
      expect(await bundle()).toMatchObject({ exitCode: 0, output: expect.stringMatching(/^2 modules, [\d.]+ MB/) as string });
      write('contracts/planted.ts', "import { readFileSync } from 'node:fs';\nexport const text: string = readFileSync('x', 'utf8');\n");
      write('workflows/steps.ts', "import { text } from '../contracts/planted.ts';\nexport const names: readonly string[] = [text];\n");
      const { exitCode, output } = await bundle();
      expect(exitCode).toBe(1);
      expect(output).toContain('node:fs');
    },
    TIMEOUT_MS,
  );
});

describe('npm run verify', () => {
  test('refuses a step that does not exist, and names those that do', async () => {
    const { exitCode, output } = await run(ROOT, 'scripts/verify.mjs', 'frmat');
    expect(exitCode).toBe(2);
    expect(output).toContain('There is no step frmat. Steps: format, boundaries, types, dead-code, lint, unit, bundle, replay');
  });
});
