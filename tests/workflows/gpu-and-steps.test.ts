import { NativeConnection } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { DatasetRef } from '../../contracts/references.ts';
import { loadManifest } from '../../data/dataset.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { createPoolWorker } from '../../workers/hosting.ts';
import { failureOf, openEnvironment, stageOf, untilProgress } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
});

describe('a stage that wants a GPU', () => {
  it('runs on the CPU pool when it only prefers one and no GPU worker is there, and says so', async () => {
    const run = await env.start('onGpu', { gpu: 'preferred' });
    const { runId } = await run.result();
    const [stage] = (await run.progress()).stages;
    expect(stage).toMatchObject({ pool: 'cpu', status: 'completed', summary: expect.stringContaining('no GPU worker: on CPU') as string });
    expect((await stageOf(env, String(runId), 'device')).pool).toBe('cpu');
  });

  it('waits when it needs one, says for what, and runs once a GPU worker is there', async () => {
    const run = await env.start('onGpu', { gpu: 'required' });
    const waiting = await untilProgress(run, (p) => p.stages[0]?.summary === 'waits for a GPU worker');
    expect(waiting.stages).toMatchObject([{ name: 'device', pool: 'gpu', status: 'running' }]);

    const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
    const worker = await createPoolWorker({ deps: env.deps, connection }, 'gpu', 1);
    const running = worker.run();
    afterAll(async () => {
      worker.shutdown();
      await running;
      await connection.close();
    });
    const { runId } = await run.result();
    expect((await stageOf(env, String(runId), 'device')).pool).toBe('gpu');

    // and from now on one that prefers it takes it
    const next = await env.start('onGpu', { gpu: 'preferred' });
    const { runId: nextId } = await next.result();
    expect((await stageOf(env, String(nextId), 'device')).pool).toBe('gpu');
  });
});

describe("a person's own steps", () => {
  it('get a data frame, a relation or plain values, and give a dataset with its lineage', async () => {
    const result = (await env.run('stepped', { carrier: 'B' })) as unknown as {
      runId: string;
      raw: DatasetRef;
      doubled: DatasetRef;
      chosen: DatasetRef;
      text: string;
    };
    expect(result.raw.rows).toBe(600);
    expect(result.doubled.rows).toBe(600);
    const manifest = await loadManifest(env.deps.artifacts, result.doubled);
    expect(manifest.columns.map((c) => c.name)).toEqual(['distance', 'carrier', 'late', 'doubled']);
    expect(manifest.parents).toEqual([result.raw.id]);

    expect(result.chosen.rows).toBeGreaterThan(200);
    expect(result.chosen.rows).toBeLessThan(400);
    expect(result.text).toBe(`${String(result.chosen.rows)} rows of B`);
    expect((await loadManifest(env.deps.artifacts, result.chosen)).parents).toEqual([result.doubled.id]);
    expect((await stageOf(env, result.runId, 'addDouble')).kind).toBe('step');
  });

  it('compute on a thread of their own, also those that only hand values about', async () => {
    expect(await env.run('valued')).toMatchObject({ onTheWorkersThread: false });
  });

  it('end the run, and not the worker, when they call process.exit', async () => {
    expect(await failureOf(await env.start('valued', { leaves: true }))).toMatchObject({
      code: 'USER_CODE_FAILED',
      message: 'The step leave ended its thread with code 7 before it was done.',
    });
    expect(await env.run('valued')).toMatchObject({ onTheWorkersThread: false });
  });

  it('end the run with what they threw, at once', async () => {
    const run = await env.start('stepped', { fail: true });
    expect(await failureOf(run)).toMatchObject({ code: 'USER_CODE_FAILED', message: 'The step notADataset threw Error: the step cannot do this' });
    const record = await env.deps.store.runs.findByWorkflow(run.workflowId);
    expect((await stageOf(env, record?.id ?? '', 'notADataset')).attempts).toBe(1);
  });
});

describe('a model that reads what a step made', () => {
  it('is registered where the step has a counterpart for requests, which then carry the raw column', async () => {
    const { runId } = await env.run('trained', { model: 'served' });
    const version = await env.deps.store.models.find('served');
    expect(version).not.toBeNull();
    const stage = await stageOf(env, String(runId), 'train-linear');
    const { predictor } = (stage.output as { value: { predictor: string } }).value;
    const { signature } = (await env.deps.artifacts.getJson(predictor)) as { signature: { columns: { name: string }[]; transforms: { column: string }[] } };
    expect(signature.columns.map(({ name }) => name).sort()).toEqual(['carrier', 'distance']);
    expect(signature.transforms.map(({ column }) => column)).toEqual(['converted']);
  });

  it('is refused where it has none, with the column and what made it, unless that is accepted', async () => {
    const report = await failureOf(await env.start('trained', { model: 'skewed', counterpart: false }));
    expect(report).toMatchObject({
      code: 'UNSERVED_COLUMN',
      problems: [{ column: 'converted', message: expect.stringContaining('convertForTraining') as string }],
    });
    expect(await env.deps.store.models.find('skewed')).toBeNull();
    await env.run('trained', { model: 'skewed', counterpart: false, accept: ['converted'] });
    expect(await env.deps.store.models.find('skewed')).not.toBeNull();
  });
});
