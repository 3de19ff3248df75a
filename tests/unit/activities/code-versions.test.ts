import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashModule, stageCodeVersions } from '../../../activities/code-versions.ts';
import { STAGE_KINDS } from '../../../activities/stage-activities.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'millrace-code-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const HEAD = "import { frameStep, valueStep } from 'millrace/steps';\nimport { limit } from './limit.ts';\n";
const FIRST = '/** One step. */\nexport const first = valueStep((n: number) => Math.min(n, limit));\n';
const SECOND = 'export const second = frameStep<{ a: number }>((frame) => frame);\n';

/** A steps file with a helper, in a folder of its own; the hash of its step `first`. */
async function hashOf(files: { readonly steps?: string; readonly limit?: string; readonly version?: string }): Promise<string> {
  const folder = await mkdtemp(join(root, 'project-'));
  const dependency = join(folder, 'node_modules', 'some-package');
  await mkdir(dependency, { recursive: true });
  await writeFile(join(dependency, 'package.json'), JSON.stringify({ name: 'some-package', version: files.version ?? '1.0.0', main: 'index.js' }));
  await writeFile(join(dependency, 'index.js'), 'module.exports = 1;');
  await writeFile(join(folder, 'limit.ts'), files.limit ?? "import base from 'some-package';\nexport const limit = base + 9;\n");
  await writeFile(join(folder, 'steps.ts'), files.steps ?? HEAD + FIRST + SECOND);
  return hashModule(join(folder, 'steps.ts'), 'first');
}

describe("the hash of a step's code", () => {
  it('is the same in another folder, and with other comments and layout', async () => {
    const hash = await hashOf({});
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(await hashOf({})).toBe(hash);
    expect(await hashOf({ steps: `${HEAD}// another word\nexport const first =\n  valueStep((n: number) => Math.min(n, limit));\n${SECOND}` })).toBe(hash);
  });

  it('does not change with another step of the same file', async () => {
    const hash = await hashOf({});
    expect(await hashOf({ steps: HEAD + FIRST })).toBe(hash);
    expect(await hashOf({ steps: HEAD + FIRST + SECOND.replace('=> frame', '=> frame.head(limit)') })).toBe(hash);
  });

  it('changes with its own code, a helper that it imports, and the version of a package behind it', async () => {
    const hashes = [
      await hashOf({}),
      await hashOf({ steps: HEAD + FIRST.replace('min', 'max') + SECOND }),
      await hashOf({ limit: "import base from 'some-package';\nexport const limit = base + 10;\n" }),
      await hashOf({ version: '1.0.1' }),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
  });
});

describe('the hash of a module that starts a thread', () => {
  it('changes with the code that runs in the thread', async () => {
    const hashWith = async (work: string): Promise<string> => {
      const folder = await mkdtemp(join(root, 'thread-'));
      await writeFile(join(folder, 'module-worker.ts'), 'export const startModuleWorker = (name: string): string => name;\n');
      await writeFile(
        join(folder, 'stage.ts'),
        "import { startModuleWorker } from './module-worker.ts';\nexport const run = () => startModuleWorker('training');\n",
      );
      await writeFile(join(folder, 'training.ts'), `export const result = ${work};\n`);
      return hashModule(join(folder, 'stage.ts'));
    };
    expect(await hashWith('1')).toBe(await hashWith('1'));
    expect(await hashWith('1')).not.toBe(await hashWith('2'));
  });
});

describe("the versions of the stages' code", () => {
  it('has one hash for each kind of stage, and no two alike', async () => {
    const versions = await stageCodeVersions();
    expect([...versions.keys()].sort()).toEqual([...STAGE_KINDS].sort());
    expect(new Set(versions.values()).size).toBe(STAGE_KINDS.length);
  });
});
