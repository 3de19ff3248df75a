import { appendFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MEMO_RETRY_OF } from '../../contracts/run.ts';
import type { StageRecord } from '../../store/stages.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { setCurrentBuild } from '../../workers/deployment.ts';
import { buildProject } from '../../workers/project-build.ts';
import { copyProject, flightsCsv, hostBuild, openEnvironment } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let firstRun: string;
beforeAll(async () => {
  env = await openEnvironment();
  firstRun = String((await env.run('trained')).runId);
});

const stagesOf = async (runId: unknown): Promise<ReadonlyMap<string, StageRecord>> =>
  new Map((await env.deps.store.stages.list(String(runId))).map((stage) => [stage.name, stage]));
const computed = (stages: ReadonlyMap<string, StageRecord>): string[] =>
  [...stages.values()].filter((stage) => stage.cachedFrom === null).map((stage) => stage.name);
const CACHEABLE = ['ingest', 'validate', 'convertDistance', 'inspect', 'split', 'train-linear', 'evaluate'];

describe('caching', () => {
  it('computes everything in the first run, and says that nothing was there before', async () => {
    const stages = await stagesOf(firstRun);
    expect([...stages.keys()]).toEqual([...CACHEABLE, 'register']);
    expect(computed(stages)).toEqual([...CACHEABLE, 'register']);
    expect(stages.get('train-linear')?.missReason).toEqual({ kind: 'first' });
  });

  it('takes every result over in a second run like the first, and names the run each comes from', async () => {
    const run = await env.start('trained');
    const result = await run.result();
    const stages = await stagesOf(result['runId']);
    expect(computed(stages)).toEqual(['register']);
    for (const name of CACHEABLE) expect(stages.get(name)?.cachedFrom).toEqual({ runId: firstRun, stage: name });
    expect(result['predictor']).toBe((await env.deps.store.models.version('late', 1)).predictor);
    const shown = (await run.progress()).stages.find((stage) => stage.name === 'train-linear');
    expect(shown).toMatchObject({ status: 'cached', summary: expect.stringContaining(`as in run ${firstRun.slice(0, 8)}`) as string });
  });

  it('computes again from the first stage whose parameter changed, and names what differs', async () => {
    const { runId } = await env.run('trained', { l2: 5 });
    const stages = await stagesOf(runId);
    expect(computed(stages)).toEqual(['train-linear', 'evaluate', 'register']);
    const reason = stages.get('train-linear')?.missReason;
    expect(reason).toMatchObject({ kind: 'differs' });
    expect(reason?.kind === 'differs' ? reason.parts : []).toEqual(['input.trainer']);
    expect(stages.get('evaluate')?.missReason).toMatchObject({ kind: 'differs', parts: ['input.candidate'] });
  });

  it('computes again when the content of the source changed under its name', async () => {
    const source = join(env.project, 'data', 'changing.csv');
    await writeFile(source, flightsCsv(300, 3));
    await env.run('trained', { source: 'data/changing.csv', model: 'changing' });
    await writeFile(source, flightsCsv(300, 4));
    const { runId } = await env.run('trained', { source: 'data/changing.csv', model: 'changing' });
    const ingest = (await stagesOf(runId)).get('ingest');
    expect(ingest?.cachedFrom).toBeNull();
    expect(ingest?.missReason).toMatchObject({ kind: 'differs', parts: expect.arrayContaining(['source.sha256']) as string[] });
  });

  it('computes a stage again that asks for it, and says that the cache was not asked', async () => {
    const { runId } = await env.run('trained', { cache: false });
    const stages = await stagesOf(runId);
    expect(stages.get('ingest')).toMatchObject({ cachedFrom: null, missReason: { kind: 'notAsked' } });
    // the same content has the same name: what follows is a hit again
    expect(computed(stages)).toEqual(['ingest', 'register']);
  });

  it('takes nothing over of which an artifact is lost', async () => {
    const { runId } = await env.run('trained', { l2: 7 });
    const output = (await stagesOf(runId)).get('train-linear')?.output as { value: { predictor: string } };
    const lost = output.value.predictor;
    await rm(await env.deps.artifacts.pathOf(lost));
    const again = await env.run('trained', { l2: 7 });
    const stages = await stagesOf(again['runId']);
    expect(stages.get('train-linear')?.cachedFrom).toBeNull();
    expect(await env.deps.artifacts.has(lost)).toBe(true);
    expect(stages.get('split')?.cachedFrom).not.toBeNull();
  });

  it('does again only what changed when a failed run is tried once more', async () => {
    const failed = await env.start('trained', { target: 'nothing' });
    await expect(failed.result()).rejects.toThrow();
    const before = await env.deps.store.runs.findByWorkflow(failed.workflowId);
    const retry = await env.start('trained', { target: 'late' }, { memo: { [MEMO_RETRY_OF]: before?.id ?? '' } });
    const { runId } = await retry.result();
    expect(await env.deps.store.runs.get(String(runId))).toMatchObject({ retryOf: before?.id });
    expect(computed(await stagesOf(runId))).toEqual(['register']);
  });
});

describe("what counts of a step's code", () => {
  const stepHash = async (project: string): Promise<string> => {
    const { pipelines } = await buildProject({
      ...env.deps,
      config: { ...env.deps.config, projectFolder: project, pipelinesFolder: join(project, 'pipelines') },
    });
    return pipelines.find((p) => p.name === 'trained')?.steps['convertDistance'] ?? '';
  };

  it('is not the folder, a comment or another step, but a helper that it imports', async () => {
    const here = await stepHash(env.project);
    const copy = await copyProject();
    expect(await stepHash(copy)).toBe(here);

    const steps = join(copy, 'pipelines', 'trained', 'steps.ts');
    const helper = join(copy, 'pipelines', 'trained', 'rounding.ts');
    await appendFile(steps, '\n// a word about it\n');
    await writeFile(steps, (await readFile(steps, 'utf8')).replace('({ rows })', '({ rows: rows + 1 })'));
    await writeFile(helper, (await readFile(helper, 'utf8')).replace('as people do', 'as the office wants it'));
    expect(await stepHash(copy)).toBe(here);

    await writeFile(helper, (await readFile(helper, 'utf8')).replace('= 3', '= 2'));
    expect(await stepHash(copy)).not.toBe(here);
  });

  it('makes the run after a code fix do again the edited step and what follows it', async () => {
    const helper = join(env.project, 'pipelines', 'trained', 'rounding.ts');
    const original = await readFile(helper, 'utf8');
    await writeFile(helper, original.replace('= 3', '= 1'));
    const built = await buildProject(env.deps);
    expect(built.id).not.toBe(env.buildId);
    await hostBuild(env, built.id);
    await setCurrentBuild(env.client, env.deps.config.temporal.namespace, built.id);

    const { runId } = await env.run('trained', {});
    const stages = await stagesOf(runId);
    expect(computed(stages)).toEqual(['convertDistance', 'split', 'train-linear', 'evaluate', 'register']);
    expect(stages.get('convertDistance')?.missReason).toMatchObject({ kind: 'differs', parts: ['step'] });
    expect(await env.deps.store.runs.get(String(runId))).toMatchObject({ buildId: built.id });
  });
});
