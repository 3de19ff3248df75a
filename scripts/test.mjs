// Runs every test (or what the arguments, which are vitest's, narrow it to) and ends with the runner's own count, alone on
// its line: `N passed, N failed, N skipped`.
//
// 1. The exit code is 0 only if tests ran, none failed, and nothing failed beside them (an unhandled error, a file that
//    could not be loaded, a server that did not start); each of those counts as a failure in the line too.
// 2. Without arguments there are two steps: all but the tests in Python environments, then those (PyTorch's alone is 3 GB),
//    so that a package index that is away does not hide what the others say. One count is printed for both.
// 3. With CI=true a test may be skipped for the lack of a GPU only, which its name says: `[needs GPU]`. Any other skipped
//    test is listed and fails the run.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const NEEDS_GPU = '[needs GPU]';
const STEPS = [
  { name: 'all but Python environments', args: ['--project', '!python'] },
  { name: 'Python environments', args: ['--project', 'python'] },
];

/**
 * Counts vitest's JSON report (`undefined`: there is none) into the run's outcome: the three figures, the exit code, and
 * what a reader must be told: files that failed outside of any test, skips that are not allowed, the slowest files.
 */
export function outcomeOf(report, { exitCode, ci }) {
  const files = report?.testResults ?? [];
  const tests = files.flatMap((file) =>
    file.assertionResults.map((test) => ({ name: `${relative(ROOT, file.name)} > ${test.fullName}`, status: test.status })),
  );
  const passed = tests.filter((test) => test.status === 'passed').length;
  const skippedTests = tests.filter((test) => test.status !== 'passed' && test.status !== 'failed');
  const brokenFiles = files
    .filter((file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'))
    .map((file) => relative(ROOT, file.name));
  const refusedSkips = ci ? skippedTests.filter((test) => !test.name.includes(NEEDS_GPU)).map((test) => test.name) : [];
  let failed = tests.filter((test) => test.status === 'failed').length + brokenFiles.length + refusedSkips.length;
  const nothingRan = passed + failed === 0;
  if (failed === 0 && (exitCode !== 0 || nothingRan)) failed = 1;
  const slowest = files
    .map((file) => ({ file: relative(ROOT, file.name), seconds: (file.endTime - file.startTime) / 1000 }))
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, 10);
  return {
    passed,
    failed,
    skipped: skippedTests.length - refusedSkips.length,
    exitCode: failed === 0 ? 0 : exitCode || 1,
    nothingRan,
    brokenFiles,
    refusedSkips,
    slowest,
  };
}

export const countLine = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed, ${skipped} skipped`;

/** Runs vitest once; its JSON report, undefined when it ended without one. */
async function runVitest(more) {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-test-'));
  const reportFile = join(folder, 'report.json');
  const args = [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--reporter', 'default', '--reporter', 'json', '--outputFile.json', reportFile, ...more];
  // `npm test` has built before
  const env = { ...process.env, MILLRACE_TEST_BUILT: 'true' };
  const child = spawn(process.execPath, args, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] });
  let stopped = false;
  const stop = (signal) => {
    stopped = true;
    child.kill(signal);
  };
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop);
  const exitCode = await new Promise((resolve) => {
    child.on('error', () => resolve(1));
    child.on('exit', (code) => resolve(code ?? 1));
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, stop);
  let report;
  try {
    report = JSON.parse(readFileSync(reportFile, 'utf8'));
  } catch {
    console.error('vitest wrote no report: it ended before the tests did.');
  }
  rmSync(folder, { recursive: true, force: true });
  return { exitCode, report, stopped };
}

async function main() {
  const asked = process.argv.slice(2);
  const ran = [];
  for (const { name, args } of asked.length === 0 ? STEPS : [{ name: undefined, args: asked }]) {
    if (name !== undefined) console.log(`\n── tests: ${name}`);
    ran.push(await runVitest(args));
    if (ran.at(-1).stopped) break;
  }
  // A step that wrote no report has failed, whatever it ended with.
  const exitCode = Math.max(...ran.map((step) => (step.report === undefined ? step.exitCode || 1 : step.exitCode)));
  const report = { testResults: ran.flatMap((step) => step.report?.testResults ?? []) };
  const outcome = outcomeOf(report, { exitCode, ci: process.env.CI === 'true' });
  if (outcome.slowest.length > 0)
    console.log(`Slowest files:\n${outcome.slowest.map(({ file, seconds }) => `  ${seconds.toFixed(1).padStart(7)} s  ${file}`).join('\n')}`);
  if (outcome.brokenFiles.length > 0) console.error(`Failed outside of a test:\n${outcome.brokenFiles.map((file) => `  ${file}`).join('\n')}`);
  if (outcome.refusedSkips.length > 0)
    console.error(`Skipped in CI for another reason than a missing GPU:\n${outcome.refusedSkips.map((name) => `  ${name}`).join('\n')}`);
  if (outcome.nothingRan) console.error('No test ran.');
  console.log(countLine(outcome));
  process.exitCode = outcome.exitCode;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    console.error(error);
    console.log(countLine({ passed: 0, failed: 1, skipped: 0 }));
    process.exitCode = 1;
  }
}
