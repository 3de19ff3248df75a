import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';

/**
 * A page of the documentation as a project: each `ts` block whose first line is `// pipelines/…/….ts`, and each block
 * of another language that names a file (` ```csv data/orders.csv `), becomes that file. Gone when the test file ends.
 */
export async function guideProject(page: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-guide-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const text = await readFile(join(packageRoot, page), 'utf8');
  const files = new Map<string, string>([['package.json', '{ "name": "guide", "type": "module", "private": true }\n']]);
  for (const [, info = '', code = ''] of text.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const named = info === 'ts' ? /^\/\/ (pipelines\/\S+\.ts)\n/.exec(code)?.[1] : /^\w+ (\S+)$/.exec(info)?.[1];
    if (named === undefined) continue;
    if (files.has(named)) throw new Error(`${page} has two blocks for ${named}`);
    files.set(named, code);
  }
  for (const [path, code] of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), code);
  }
  // as an installed project has them
  await mkdir(join(folder, 'node_modules'));
  for (const name of ['@temporalio', 'zod', 'vega-datasets', '@stdlib'])
    await symlink(join(packageRoot, 'node_modules', name), join(folder, 'node_modules', name));
  return folder;
}
