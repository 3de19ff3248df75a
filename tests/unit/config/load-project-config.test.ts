import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadProjectConfig } from '../../../config/load-project-config.ts';

let project: string;
beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'millrace-config-'));
});
afterEach(() => {
  rmSync(project, { recursive: true, force: true });
});
const write = (name: string, text: string): void => {
  writeFileSync(join(project, name), text);
};

describe('loadProjectConfig', () => {
  it('works without a millrace.config.ts', async () => {
    expect((await loadProjectConfig({ env: {}, cwd: project })).projectFolder).toBe(project);
  });

  it('runs a millrace.config.ts with its own imports, and sees it change', async () => {
    write('slots.ts', 'export const slots: number = 5;');
    write(
      'millrace.config.ts',
      "import { defineConfig } from 'millrace/config';\nimport { slots } from './slots.ts';\nexport default defineConfig({ pools: { cpu: { slots } } });",
    );
    expect((await loadProjectConfig({ env: {}, cwd: project })).pools['cpu']?.slots).toBe(5);
    write('slots.ts', 'export const slots: number = 6;');
    expect((await loadProjectConfig({ env: {}, cwd: project })).pools['cpu']?.slots).toBe(6);
    expect((await loadProjectConfig({ env: { MILLRACE_CPU_SLOTS: '2' }, cwd: project })).pools['cpu']?.slots).toBe(2);
    expect(readdirSync(join(project, '.millrace/build'))).toHaveLength(2);
  });

  it('knows the pools of the file when a worker of one of them starts', async () => {
    write('millrace.config.ts', 'export default { pools: { large: { slots: 1 } } };');
    expect((await loadProjectConfig({ env: { MILLRACE_POOL: 'large' }, cwd: project })).pool).toBe('large');
  });

  it.each([
    ['a syntax error', 'export default {', /cannot be built/],
    ['an error while it runs', 'throw new Error("no");\nexport default {};', /failed while it was loaded/],
    ['no default export', 'export const a = 1;', /does not fit/],
    ['a field that does not exist', 'export default { polls: {} };', /does not fit/],
  ])('says which file is wrong: %s', async (_, text, message) => {
    write('millrace.config.ts', text);
    await expect(loadProjectConfig({ env: {}, cwd: project })).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(message) as string,
      problems: [{ path: expect.stringContaining('millrace.config.ts') as string }],
    });
  });
});
