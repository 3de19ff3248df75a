import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PORT_VARIABLES } from '../../config/config.ts';
import { packageRoot } from '../../config/package-root.ts';
import { freePort } from '../../stack/ports.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-project-'));
const project = join(folder, 'rainy-days');
let env: NodeJS.ProcessEnv = {};

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end; its exit code is a result. */
function run(command: string, args: readonly string[], cwd: string): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(command, args, { cwd, env, maxBuffer: 64 * 1024 * 1024 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, out, err });
    });
  });
}
const millrace = (...args: string[]): Promise<Ended> => run('npx', ['--no-install', 'millrace', ...args], project);
const lastJson = (ended: Ended): unknown => JSON.parse(ended.out.trimEnd().split('\n').at(-1) ?? '');

beforeAll(async () => {
  // An embedded Postgres of root's runs as another user, who has to pass through.
  chmodSync(folder, 0o711);
  const ports = await Promise.all(Object.values(PORT_VARIABLES).map(async ({ variable }) => [variable, String(await freePort())] as const));
  // As in a fresh shell: nothing of this test's own servers, and not inside another npm command.
  const inherited = Object.entries(process.env).filter(
    ([name]) =>
      !/^(MILLRACE_(?!CACHE)|TEMPORAL_(?!CLI)|DATABASE_URL|VITEST|npm_package_|npm_lifecycle_|npm_command|npm_config_local_prefix|INIT_CWD|NODE_ENV)/.test(
        name,
      ),
  );
  env = { ...Object.fromEntries(inherited), ...Object.fromEntries(ports) };

  const packed = await run('npm', ['pack', '--pack-destination', folder, '--silent'], packageRoot);
  expect(packed).toMatchObject({ code: 0 });
  const tarball = join(folder, packed.out.trim().split('\n').at(-1) ?? '');
  expect(existsSync(tarball)).toBe(true);

  const made = await run(process.execPath, [join(packageRoot, 'bin/millrace.js'), 'init', project, '--millrace', tarball, '--json'], folder);
  expect(made).toMatchObject({ code: 0 });
  const installed = await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund'], project);
  expect(installed, installed.err).toMatchObject({ code: 0 });
}, 600_000);

afterAll(async () => {
  if (existsSync(join(project, 'node_modules'))) await millrace('down');
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

test('an installed project takes nothing from outside npm: the overrides hold', () => {
  const lock = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8')) as { packages: Record<string, { resolved?: string; version?: string }> };
  expect(lock.packages['node_modules/xlsx']?.version).toBe('0.18.5');
  expect(
    Object.values(lock.packages).flatMap((p) => (p.resolved !== undefined && /\.s3\.|cdn\.sheetjs|github\.com/.test(p.resolved) ? [p.resolved] : [])),
  ).toEqual([]);
});

test("the project's files have correct types, against the types that the package ships", async () => {
  const checked = await run('npx', ['--no-install', 'tsc', '--noEmit'], project);
  expect(checked.out).toBe('');
  expect(checked.code).toBe(0);
});

test('up, run, predict and down work as the README says', async () => {
  const up = await millrace('up', '--detach');
  expect(up, up.err).toMatchObject({ code: 0 });
  expect((await millrace('status')).code).toBe(0);

  const ran = await millrace('run', 'seattleRain', '--set', 'trees=20', '--json');
  expect(lastJson(ran), ran.out).toMatchObject({ status: 'completed', pipeline: 'seattleRain', error: null, result: { model: 'seattle-rain', version: 1 } });
  expect(ran.code).toBe(0);

  const row = { date: '2015-11-20', temp_max: 9, temp_min: 5, wind: 4.5, rained_yesterday: 1 };
  const asked = await millrace('predict', 'seattle-rain', '--rows', JSON.stringify(row), '--json');
  expect(lastJson(asked), asked.out).toMatchObject({
    model: 'seattle-rain',
    version: 1,
    predictions: [{ label: expect.stringMatching(/^(true|false)$/) as unknown }],
  });

  const { run: runId } = lastJson(ran) as { run: string };
  const again = await millrace('runs', 'retry', runId, '--json');
  expect(lastJson(again), again.out).toMatchObject({ status: 'completed' });
  const shown = lastJson(await millrace('runs', 'show', (lastJson(again) as { run: string }).run, '--json')) as {
    retryOf: string;
    stages: { name: string; cache: string }[];
  };
  expect(shown.retryOf).toBe(runId);
  expect(shown.stages.find((s) => s.name === 'train-gbdt')?.cache).toMatch(/^hit: from run /);

  const bad = await millrace('run', 'seattleRain', '--set', 'tree=5', '--set', 'leastAuc=2', '--json');
  expect(bad.code).toBe(2);
  expect(lastJson(bad)).toMatchObject({ error: { code: 'INVALID_PARAMETERS', problems: [{ path: 'tree' }, { path: 'leastAuc' }] } });

  expect((await millrace('down')).code).toBe(0);
  expect((await millrace('status')).code).toBe(3);
}, 300_000);

test("the project's own test passes", async () => {
  const tested = await run('npm', ['test'], project);
  expect(tested, `${tested.out}\n${tested.err}`).toMatchObject({ code: 0 });
}, 300_000);
