// Every check that needs no server:  npm run verify [-- --static] [-- STEP …]
//
// All steps run even when one fails, so that one run shows everything there is to correct; the exit code is 1 when any
// failed. Two run at a time, the longest from the start; what a step says is printed whole when it ends. `--static` leaves out the tests, for a caller that runs them anyway (.ci/run). STEP names pick single steps.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const bin = (path) => [process.execPath, join(ROOT, 'node_modules', path)];
const script = (name, ...args) => [process.execPath, join(ROOT, 'scripts', name), ...args];
const vitest = (project) => [...bin('vitest/vitest.mjs'), 'run', '--project', project, '--reporter', 'dot'];

/** In this order: what is quick to run and to correct first. `long`: begun at once, beside the others. `test: true` marks what `npm test` runs too. */
const STEPS = [
  { name: 'format', what: 'Biome', command: [...bin('@biomejs/biome/bin/biome'), 'format', '.'] },
  { name: 'boundaries', what: 'dependency-cruiser', command: script('boundaries.mjs') },
  {
    name: 'types',
    what: 'tsc',
    command: [...bin('typescript/bin/tsc'), '-p', 'tsconfig.json', '--noEmit', '--incremental', '--tsBuildInfoFile', 'node_modules/.cache/types.tsbuildinfo'],
  },
  { name: 'dead-code', what: 'knip', command: [...bin('knip/bin/knip.js'), '--no-progress'] },
  {
    name: 'lint',
    what: 'ESLint',
    long: true,
    command: [...bin('eslint/bin/eslint.js'), '.', '--max-warnings', '0', '--cache', '--cache-location', 'node_modules/.cache/eslint/'],
  },
  { name: 'unit', what: 'vitest', test: true, command: vitest('unit') },
  { name: 'bundle', what: "Temporal's bundler", command: script('bundle.mjs') },
  { name: 'replay', what: 'vitest', test: true, command: vitest('replay') },
];

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

function run([program, ...args]) {
  return new Promise((resolve) => {
    const said = [];
    const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => said.push(chunk));
    const end = (code) => resolve({ code, said: Buffer.concat(said) });
    child.on('error', (error) => {
      said.push(Buffer.from(`${error.message}\n`));
      end(1);
    });
    child.on('close', (code) => end(code ?? 1));
  });
}

const asked = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const unknown = asked.filter((name) => !STEPS.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`There is no step ${unknown.join(', ')}. Steps: ${STEPS.map((step) => step.name).join(', ')}`);
  process.exit(2);
}
const onlyStatic = process.argv.includes('--static');
const steps = STEPS.filter((step) => (asked.length === 0 || asked.includes(step.name)) && !(onlyStatic && step.test));

const results = [];
async function runInTurn(list) {
  for (const { name, what, command } of list) {
    const started = performance.now();
    const { code, said } = await run(command);
    const took = performance.now() - started;
    results.push({ name, code, took });
    process.stdout.write(`\n── ${name} (${what})\n`);
    process.stdout.write(said);
    console.log(`── ${name}: ${code === 0 ? 'passed' : `FAILED (exit ${code})`} in ${seconds(took)}`);
  }
}
await Promise.all([runInTurn(steps.filter((step) => step.long)), runInTurn(steps.filter((step) => !step.long))]);

const failed = results.filter((result) => result.code !== 0);
console.log(`\n${results.map(({ name, code, took }) => `${code === 0 ? 'ok    ' : 'FAILED'}  ${name.padEnd(10)}  ${seconds(took).padStart(8)}`).join('\n')}`);
console.log(
  failed.length === 0
    ? `verify: ${results.length} steps passed`
    : `verify: ${failed.length} of ${results.length} steps failed: ${failed.map((result) => result.name).join(', ')}`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
