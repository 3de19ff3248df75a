import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundle } from '@temporalio/worker';
import { afterAll } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';

/** A change of one file: the text that must stand there, and what stands there instead. */
export interface Change {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const PIPELINES = join('tests', 'workflows', 'project', 'pipelines');

/**
 * The workflow code of today, with the pipelines of the test project, as a worker would load it; changed as stated, in a
 * copy. No server is needed.
 */
export async function bundleWorkflows(changes: readonly Change[] = []): Promise<WorkflowBundle> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-replay-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  for (const part of ['workflows', 'contracts', 'activities', 'ml/search', 'ml/random.ts', PIPELINES])
    await cp(join(packageRoot, part), join(folder, part), { recursive: true });
  for (const { file, from, to } of changes) {
    const text = await readFile(join(folder, file), 'utf8');
    if (!text.includes(from)) throw new Error(`${file} does not hold the text that this change replaces: ${from}`);
    await writeFile(join(folder, file), text.replace(from, to));
  }
  const entry = join(folder, 'entry.ts');
  const modules = [join('workflows', 'system.ts'), join(PIPELINES, 'release', 'pipeline.ts')];
  await writeFile(entry, modules.map((module) => `export * from ${JSON.stringify(join(folder, module))};\n`).join(''));
  return bundleWorkflowCode({
    workflowsPath: entry,
    logger: new DefaultLogger('ERROR'),
    webpackConfigHook: (webpack) => ({
      ...webpack,
      resolve: {
        ...webpack.resolve,
        modules: [join(packageRoot, 'node_modules')],
        alias: Object.assign({}, webpack.resolve?.alias, { millrace$: join(folder, 'workflows', 'index.ts') }),
      },
    }),
  });
}
