// Bundles all workflow code (workflows/, and pipelines/ without its steps) as a worker does, so that an import the sandbox
// refuses, or a file that webpack cannot read, is found without starting a worker:  node scripts/bundle.mjs [ROOT]
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';

const root = resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)));
const modules = ['workflows', 'pipelines']
  .filter((folder) => existsSync(join(root, folder)))
  .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(root, folder, file)))
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !file.endsWith('.test.ts') && !/\/pipelines\/[^/]+\/steps\.ts$/.test(file))
  .sort();

const [first, ...rest] = modules;
if (first === undefined) {
  console.error('There is no workflow code to bundle.');
  process.exit(1);
}
const lines = [];
try {
  const { code } = await bundleWorkflowCode({
    workflowsPath: first,
    preloadModules: rest,
    logger: new DefaultLogger('WARN', ({ level, message }) => lines.push(`${level} ${message}`)),
  });
  const errors = lines.filter((line) => line.startsWith('ERROR'));
  if (errors.length > 0) throw new Error(errors.join('\n'));
  console.log(`${modules.length} modules, ${(code.length / 1e6).toFixed(1)} MB`);
} catch (error) {
  console.error([error.message, ...lines.filter((line) => !error.message.includes(line))].join('\n'));
  process.exitCode = 1;
}
