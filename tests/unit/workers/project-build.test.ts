import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../config/config.ts';
import { packageRoot } from '../../../config/package-root.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import { createArtifacts } from '../../../store/artifacts.ts';
import { openStore } from '../../../store/store.ts';
import { buildProject, gitState } from '../../../workers/project-build.ts';

let root: string;
// never reached: what is tested here fails before anything is recorded
const store = openStore({ databaseUrl: 'postgres://nobody@127.0.0.1:1/nothing' });
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'millrace-build-'));
});
afterAll(async () => {
  await store.close();
  await rm(root, { recursive: true, force: true });
});

const PIPELINE = (name: string, body = ''): string =>
  `import { definePipeline } from 'millrace';\nimport { z } from 'zod';\n${body}\nexport const ${name} = definePipeline({ params: z.object({}) }, async () => undefined);\n`;

async function problemsOf(folders: Readonly<Record<string, string>> | null): Promise<MillraceError> {
  const project = await mkdtemp(join(root, 'project-'));
  await mkdir(join(project, 'node_modules'));
  for (const name of ['@temporalio', 'zod']) await symlink(join(packageRoot, 'node_modules', name), join(project, 'node_modules', name));
  for (const [folder, code] of Object.entries(folders ?? {})) {
    await mkdir(join(project, 'pipelines', folder), { recursive: true });
    await writeFile(join(project, 'pipelines', folder, 'pipeline.ts'), code);
  }
  const config = loadConfig({ cwd: project, env: {} });
  const error: unknown = await buildProject({ config, store, artifacts: createArtifacts({ root: config.artifacts.folder }), log: () => undefined }).catch(
    (caught: unknown) => caught,
  );
  if (!(error instanceof MillraceError)) throw new Error('the build was not refused');
  expect(error.code).toBe('INVALID_CONFIG');
  return error;
}

describe('a project that cannot be built', () => {
  it('is told that it has no folder of pipelines', async () => {
    expect((await problemsOf(null)).message).toContain('no folder of pipelines');
  });

  it('is told every place where its code does not compile', async () => {
    const { problems } = await problemsOf({
      first: 'export const a = ;',
      second: PIPELINE('fine'),
      third: "import { missing } from './nowhere.ts';\nexport { missing };",
    });
    expect(problems.map((p) => p.path).sort()).toEqual([
      expect.stringMatching(/first\/pipeline\.ts:1:\d+$/),
      expect.stringMatching(/third\/pipeline\.ts:1:\d+$/),
    ]);
  });

  it('is told of two pipelines of one name, and of one that takes a name of the engine', async () => {
    const { problems } = await problemsOf({ a: PIPELINE('twice'), b: PIPELINE('twice'), c: PIPELINE('endpoint') });
    expect(problems.map((p) => p.path).sort()).toEqual(['pipelines/b', 'pipelines/c']);
    expect(problems.find((p) => p.path === 'pipelines/c')?.message).toContain("a workflow of Millrace's own");
  });
});

describe('gitState', () => {
  it('has no commit outside of a repository', async () => {
    expect(await gitState(root)).toEqual({ remote: null, commit: null, clean: null });
  });

  it('has commit, whether the tree was clean, and the remote without what it may hold of a password', async () => {
    const folder = await mkdtemp(join(root, 'repository-'));
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', folder, '-c', 'user.name=a', '-c', 'user.email=a@example.org', ...args], { encoding: 'utf8' }).trim();
    git('init', '-q');
    git('remote', 'add', 'origin', 'https://user:secret@example.org/project.git');
    await writeFile(join(folder, 'file'), 'one');
    git('add', '.');
    git('commit', '-q', '-m', 'first');
    expect(await gitState(folder)).toEqual({ remote: 'https://example.org/project.git', commit: git('rev-parse', 'HEAD'), clean: true });
    await writeFile(join(folder, 'file'), 'two');
    expect(await gitState(folder)).toMatchObject({ clean: false });
  });
});
