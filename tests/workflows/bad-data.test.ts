import { execFileSync } from 'node:child_process';
import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { expectations, rowCount } from '../../contracts/expectations.ts';
import type { ErrorReport } from '../../contracts/errors.ts';
import type { DatasetRef } from '../../contracts/references.ts';
import { loadManifest } from '../../data/dataset.ts';
import type { TestEnvironment, TestRun } from '../../testing/test-environment.ts';
import { decision, failureOf, flightsCsv, openEnvironment, serve, untilGate } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment();
});

async function csv(name: string, text: string): Promise<string> {
  await writeFile(join(env.project, 'data', name), text);
  return `data/${name}`;
}

/** The highest attempt of any of the run's activities, as Temporal counted it. */
async function attemptsOf(run: TestRun): Promise<number> {
  const { events } = await run.handle.fetchHistory();
  return Math.max(...(events ?? []).map((event) => event.activityTaskStartedEventAttributes?.attempt ?? 0));
}

/** Runs `trained` on something bad: it must end at once, recorded, with nothing registered. */
async function failing(parameters: object): Promise<ErrorReport> {
  const run = await env.start('trained', { model: 'never', ...parameters });
  const report = await failureOf(run);
  const record = await env.deps.store.runs.findByWorkflow(run.workflowId);
  expect(record).toMatchObject({ status: 'failed', error: { code: report.code } });
  const stages = await env.deps.store.stages.list(record?.id ?? '');
  expect(stages.at(-1)).toMatchObject({ status: 'failed', error: { code: report.code } });
  expect(await attemptsOf(run)).toBe(1);
  expect(report.fix).not.toBe('');
  expect(await env.deps.store.models.find('never')).toBeNull();
  return report;
}

async function damage(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await chmod(path, 0o644);
  await writeFile(path, bytes);
}

describe('bad data ends a run at the first attempt, with nothing registered', () => {
  it('when the source does not exist', async () => {
    const report = await failing({ source: 'data/nowhere.csv' });
    expect(report.code).toBe('SOURCE_NOT_FOUND');
    expect(`${report.message} ${JSON.stringify(report.problems)}`).toContain('nowhere.csv');
  });

  it('when the source has no rows', async () => {
    expect((await failing({ source: await csv('empty.csv', 'distance,carrier,late\n') })).code).toBe('SOURCE_EMPTY');
  });

  it('when a column is missing, with every expectation that does not hold', async () => {
    const report = await failing({ source: await csv('no-carrier.csv', 'distance,late\n1,yes\n,no\n3,yes\n') });
    expect(report.code).toBe('EXPECTATIONS_FAILED');
    expect(report.problems).toHaveLength(2);
    expect(JSON.stringify(report.problems)).toContain('carrier');
    expect(JSON.stringify(report.problems)).toContain('distance');
  });

  it('when the target is no column, with those that there are', async () => {
    const report = await failing({ target: 'delayed' });
    expect(report).toMatchObject({
      code: 'COLUMN_MISSING',
      problems: [{ path: 'target', found: 'delayed' }],
      fix: expect.stringContaining('distance, carrier, late, converted') as string,
    });
  });

  it('when a value far down is of another type, with its place, and no temporary file is left', async () => {
    const report = await failing({ source: await csv('late.csv', `distance,carrier,late\n${'1,AA,yes\n'.repeat(30_000)}far,AA,no\n`) });
    expect(report).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ file: 'data/late.csv', row: 30_002, column: 'distance', found: 'xxx' }] });
    expect(await readdir(join(env.deps.config.artifacts.folder, 'tmp'))).toEqual([]);
  });

  it('when the file is in two encodings, with the first sign that is not of the first', async () => {
    await writeFile(join(env.project, 'data', 'mixed.csv'), Buffer.from('distance,carrier,late\n1,\xc3\x84,yes\n2,\xc4,no\n', 'latin1'));
    const report = await failing({ source: 'data/mixed.csv' });
    expect(report).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ file: 'data/mixed.csv', row: 3, column: 'carrier' }] });
    expect(await readdir(join(env.deps.config.artifacts.folder, 'tmp'))).toEqual([]);
  });

  it('when the target has one class', async () => {
    expect((await failing({ source: await csv('one-class.csv', flightsCsv(300).replaceAll(',no', ',yes')) })).code).toBe('TARGET_ONE_CLASS');
  });
});

describe('a damaged artifact', () => {
  const ingested = async (name: string, seed: number): Promise<{ readonly output: DatasetRef; readonly runId: string }> => {
    const source = { format: 'csv', path: await csv(`${name}.csv`, flightsCsv(200, seed)) };
    return (await env.run('stage', { kind: 'ingest', input: { source, name } })) as unknown as { output: DatasetRef; runId: string };
  };

  it('is not used: the stage that reads it fails with what is wrong', async () => {
    const { output } = await ingested('damaged', 11);
    const [file] = (await loadManifest(env.deps.artifacts, output)).files;
    await damage(await env.deps.artifacts.pathOf(file?.sha256 ?? ''));
    const run = await env.start('stage', { kind: 'validate', input: { dataset: output, expectations: expectations({ table: [rowCount({ min: 1 })] }) } });
    expect(await failureOf(run)).toMatchObject({ code: 'ARTIFACT_CORRUPT', problems: [{ found: file?.sha256 }] });
    expect(await attemptsOf(run)).toBe(1);
  });

  it('is no hit of the cache: the stage that made it makes it anew', async () => {
    const { output, runId } = await ingested('mended', 12);
    const [file] = (await loadManifest(env.deps.artifacts, output)).files;
    await damage(await env.deps.artifacts.pathOf(file?.sha256 ?? ''));
    const again = await ingested('mended', 12);
    expect(again.output).toEqual(output);
    expect(await env.deps.artifacts.has(file?.sha256 ?? '')).toBe(true);
    const record = async (id: string) => (await env.deps.store.stages.find(id, 'ingest'))?.cachedFrom;
    expect([await record(runId), await record(again.runId)]).toEqual([null, null]);
  });

  it('is not deployed: what was registered is taken back, and the run says what the server found', async () => {
    const { server } = await serve(env);
    const run = await env.start('release', { model: 'torn', endpoint: 'torn', gate: true, rollout: 'replace' });
    await untilGate(run, 'production');
    const { predictor } = await env.deps.store.models.version('torn', 1);
    await damage(await env.deps.artifacts.pathOf(predictor ?? ''));
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    const report = await failureOf(run);
    expect(report.code).toBe('DEPLOY_FAILED');
    expect(await env.deps.store.models.version('torn', 1)).toMatchObject({ status: 'rolled_back' });
    expect(await env.deps.store.models.champion('torn')).toBeNull();
    expect(await env.deps.store.endpoints.route('torn')).toBeNull();
    await server.stop();
  });
});

describe('a full disk of the artifact store', () => {
  // the kernel refuses every file of this process that grows beyond the limit, as a full disk does
  const limit = (bytes: string): void => {
    execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
  };
  afterEach(() => {
    limit('unlimited');
  });

  it('ends the run with DISK_FULL and leaves no half file, and the next run goes on where there is room again', async () => {
    const source = await csv('large.csv', flightsCsv(40_000, 5));
    limit('30000');
    const report = await failing({ source });
    expect(report.code).toBe('DISK_FULL');
    limit('unlimited');
    expect(await readdir(join(env.deps.config.artifacts.folder, 'tmp'))).toEqual([]);
    const { version } = await env.run('trained', { source, model: 'afterwards' });
    expect(version).toBe(1);
    await rm(join(env.project, source));
  });
});

describe('a stage on its own', () => {
  it('runs with records like in a pipeline, takes a bare ONNX file, and registers it', async () => {
    const imported = await env.run('stage', { kind: 'importModel', input: { path: 'models/double.onnx', sampleRows: [{ x: 4 }] } });
    const candidate = imported['output'];
    expect(candidate).toMatchObject({ kind: 'candidate', trainer: 'onnx', task: 'raw' });
    const registered = await env.run('stage', { kind: 'register', input: { candidate, model: 'by-hand' } });
    expect(registered['output']).toMatchObject({ kind: 'version', model: 'by-hand', version: 1 });
    expect(await env.deps.store.runs.get(String(registered['runId']))).toMatchObject({ pipeline: 'stage', status: 'completed' });
    expect((await env.deps.store.models.alias('by-hand', 'candidate'))?.version).toBe(1);
  });

  it('refuses a kind or an input that does not fit, with every problem', async () => {
    expect((await failureOf(await env.start('stage', { kind: 'guess', input: {} }))).code).toBe('INVALID_PARAMETERS');
    const report = await failureOf(await env.start('stage', { kind: 'ingest', input: { source: { format: 'csv' }, name: '9 lives' } }));
    expect(report.code).toBe('INVALID_PARAMETERS');
    expect(report.problems.map((p) => p.path).sort()).toEqual(['ingest.name', 'ingest.source.path']);
  });
});
