import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MillraceError } from '../../contracts/errors.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { setCurrentBuild } from '../../workers/deployment.ts';
import { buildProject } from '../../workers/project-build.ts';
import { decision, hostBuild, openEnvironment, untilGate, untilProgress } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment();
});
const approve = (by: string) => ({ args: [decision(by)] as [ReturnType<typeof decision>] });

async function edit(file: string, from: string, to: string): Promise<void> {
  const path = join(env.project, 'pipelines', 'gates', file);
  const text = await readFile(path, 'utf8');
  expect(text).toContain(from);
  await writeFile(path, text.replace(from, to));
}

describe('runs at once', () => {
  it('lets two runs of a pipeline go on that allows two, and the third when one of them has ended', async () => {
    const [first, second] = [await env.start('waiting'), await env.start('waiting')];
    await Promise.all([untilGate(first, 'go'), untilGate(second, 'go')]);
    const third = await env.start('waiting');
    const { runId } = await untilProgress(third, (p) => p.runId !== '');
    expect(await env.deps.store.runs.get(runId)).toMatchObject({ status: 'waiting', startedAt: null });
    expect((await third.progress()).stages).toEqual([]);

    await first.handle.executeUpdate('approve', approve('ada'));
    await first.result();
    await untilGate(third, 'go');
    expect((await env.deps.store.runs.get(runId)).status).toBe('running');
    await Promise.all([second, third].map((run) => run.handle.executeUpdate('approve', approve('ada'))));
    await Promise.all([second.result(), third.result()]);
  });
});

describe('a pipeline that is edited while a run waits', () => {
  it('ends the run on the code it was started with, its steps included, and starts the next on the new', async () => {
    const old = await env.start('waiting');
    const { runId } = await untilGate(old, 'go');
    await edit('pipeline.ts', 'first workflow', 'second workflow');
    await edit('answer-text.ts', 'first code', 'second code');

    const built = await buildProject(env.deps);
    expect(built.id).not.toBe(env.buildId);
    await hostBuild(env, built.id);
    await setCurrentBuild(env.client, env.deps.config.temporal.namespace, built.id);
    const next = await env.start('waiting');
    const { runId: nextId } = await untilGate(next, 'go');

    expect(await env.deps.store.runs.openBuilds()).toEqual(expect.arrayContaining([env.buildId, built.id]));
    await old.handle.executeUpdate('approve', approve('ada'));
    expect(await old.result()).toEqual({ runId, answer: 'first code', workflow: 'first workflow' });
    await next.handle.executeUpdate('approve', approve('ada'));
    expect(await next.result()).toEqual({ runId: nextId, answer: 'second code', workflow: 'second workflow' });
    expect((await env.deps.store.runs.get(runId)).buildId).toBe(env.buildId);
    expect((await env.deps.store.runs.get(nextId)).buildId).toBe(built.id);
    expect(await env.deps.store.runs.openBuilds()).toEqual([]);
  });

  it('makes no build of a broken edit, and says where it is broken', async () => {
    await edit('pipeline.ts', 'await approval', 'await await approval(');
    const error: unknown = await buildProject(env.deps).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(MillraceError);
    expect(error).toMatchObject({ code: 'INVALID_CONFIG' });
    expect((error as MillraceError).problems[0]?.path).toMatch(/gates\/pipeline\.ts:\d+:\d+$/);
  });
});
