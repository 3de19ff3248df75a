import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Store } from '../../store/store.ts';
import { mlflowChecks } from '../support/mlflow-client.ts';

const PIPELINE_RUN = randomBytes(16).toString('hex');
const page = readFileSync(join(import.meta.dirname, '../../docs/tracking.md'), 'utf8');
const example = /## Tracking[\s\S]*?```python\n([\s\S]*?)```/.exec(page)?.[1] ?? '';

let store: Store;
let url: string;
const { of } = mlflowChecks('mlflow-tracking-client.py', async (api) => {
  ({ store, url } = api);
  await pipelineRun();
  return [PIPELINE_RUN, example];
});

/** A run of a pipeline that is under way, with two stages. */
async function pipelineRun(): Promise<void> {
  await store.runs.begin({
    runId: PIPELINE_RUN,
    workflowId: 'nightly-7',
    temporalRunId: 't',
    pipeline: 'flightDelay',
    params: { source: 'flights.parquet', split: { fraction: 0.2 }, features: ['a', 'b'] },
    trigger: { kind: 'cli', by: 'ann' },
  });
  const begin = (name: string, input: unknown) =>
    store.stages.begin({ runId: PIPELINE_RUN, name, kind: name, ordinal: 1, attempt: 1, fingerprint: null, input, useCache: false });
  const { token } = await begin('train', { trainer: { kind: 'gbdt', trees: 200 }, target: 'delayed' });
  await store.stages.complete({
    runId: PIPELINE_RUN,
    name: 'train',
    token,
    output: {},
    metrics: [
      { key: 'loss', value: 0.7, step: 1 },
      { key: 'loss', value: 0.6, step: 2 },
    ],
  });
  const evaluate = await begin('evaluate', { metric: 'auc' });
  await store.stages.complete({ runId: PIPELINE_RUN, name: 'evaluate', token: evaluate.token, output: {}, metrics: [{ key: 'auc', value: 0.71 }] });
}

describe("MLflow's client", () => {
  it('makes, finds, renames, deletes and restores experiments', (context) => {
    const found = of('experiments', context);
    expect(found).toMatchObject({
      default: ['0', 'Default'],
      location: true,
      tags: { team: 'ml', stage: 'draft' },
      name: 'premier',
      created: true,
      deleted: 'deleted',
      restored: 'active',
      none_of_that_name: null,
      odd_names: [true, true, true],
    });
    expect(found['again']).toEqual(['RESOURCE_ALREADY_EXISTS', expect.stringContaining('Experiment(name=first) already exists')]);
    expect(found['taken']).toEqual(['RESOURCE_ALREADY_EXISTS', expect.stringContaining('deleted state')]);
    expect(found['into']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining("must be in the 'active' state")]);
    expect(found['missing']).toEqual(['RESOURCE_DOES_NOT_EXIST', expect.stringContaining('No Experiment with id=123456 exists')]);
    expect(found['empty_name']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
    expect(found['nul']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('NUL')]);
    expect(found['default_stays']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
  });

  it('searches experiments page by page', (context) => {
    const found = of('experiment_search', context);
    expect(found).toMatchObject({
      pages: [['s-a', 's-b'], ['s-c'], null],
      tag: ['s-b', 's-c'],
      newest_first: ['s-c', 's-b', 's-a'],
      id: ['Default'],
      deleted: [],
    });
    expect(found['bad']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining("Invalid entity type 'metrics'")]);
  });

  it('gets one experiment for a name that six of it ask for at once', (context) => {
    expect(of('one_name_for_two', context)).toEqual([1, Array.from({ length: 5 }, () => 'RESOURCE_ALREADY_EXISTS')]);
  });

  it('keeps runs with parameters, tags, status and times', (context) => {
    const found = of('runs', context);
    expect(found).toMatchObject({
      id: true,
      named: true,
      start: 1_700_000_000_123,
      end: 1_700_000_001_000,
      status: 'KILLED',
      name: 'renamed',
      user: 'ann',
      tags: { k: 'w', 'mlflow.user': 'ann', 'mlflow.runName': 'renamed' },
      params: { depth: '3' },
      uri: true,
      resumed: ['RUNNING', 1_700_000_001_000, 'again'],
      deleted: 'deleted',
      hidden: 1,
      restored: 2,
    });
    expect(found['changed']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining("Changing param values is not allowed. Param with key='depth'")]);
    expect(found['late']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining("must be in the 'active' state")]);
    expect(found['missing']).toEqual(['RESOURCE_DOES_NOT_EXIST', expect.any(String)]);
    expect(found['missing_tag']).toEqual(['RESOURCE_DOES_NOT_EXIST', expect.any(String)]);
  });

  it('keeps every point of a metric, and knows the latest by step, time and value', (context) => {
    const found = of('metrics', context);
    expect(found['latest']).toEqual({
      m: 2,
      nan: 'nan',
      inf: 'inf',
      ninf: '-inf',
      tiny: 5e-324,
      huge: Number.MAX_VALUE,
      neg: -1.5,
      tie: 3,
      back: 1,
    });
    expect(found).toMatchObject({
      history: [
        [0, 1, 0],
        [3, 9, 3],
        [5, 2, 5],
      ],
      nan_history: ['nan'],
      none: [],
    });
    expect(found['no_run']).toEqual(['RESOURCE_DOES_NOT_EXIST', expect.any(String)]);
    expect(found['no_run_to_log']).toEqual(['RESOURCE_DOES_NOT_EXIST', expect.any(String)]);
    expect(found['bad_key']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
    expect(found['bad_time']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
  });

  it('logs a batch whole or not at all, within the limits of MLflow', (context) => {
    const found = of('batches', context);
    expect(found).toMatchObject({ counts: [10, 100, 101], latest: 799, nothing_half_written: [false, false], longest: true });
    expect(found['too_many']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('at most 1000 metrics. Got 1001 metrics')]);
    expect(found['twice']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('Duplicate parameter keys')]);
    expect(found['half']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining("Param with key='p0'")]);
    expect(found['long']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('exceeds the maximum length of 6000 characters')]);
    expect(found['odd']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('may only contain alphanumerics')]);
    expect(found['nul']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('NUL')]);
  });

  it("searches runs in MLflow's language", (context) => {
    const found = of('run_search', context);
    expect(found).toMatchObject({
      newest_first: ['r5', 'r4', 'r3', 'r2', 'r1', 'r0'],
      metric: ['r4', 'r1'],
      not_equal: ['r4', 'r3', 'r1', 'r0'],
      quoted_metric: ['r5', 'r4'],
      param: ['r1', 'r3', 'r5'],
      like: ['r5'],
      null: ['r0', 'r1', 'r2', 'r3', 'r4'],
      status: [['r4'], 5],
      time: ['r4', 'r3'],
      ids: ['r1', 'r4'],
      not_ids: 5,
      name: ['r0'],
      by_metric: ['r5', 'r4', 'r1', 'r0', 'r3', 'r2'],
      by_metric_up: ['r0', 'r1', 'r4', 'r5', 'r3', 'r2'],
      by_two: ['r5', 'r3', 'r1', 'r4', 'r0', 'r2'],
      pages: [['r5', 'r4', 'r1', 'r0'], ['r3', 'r2'], null],
      injected: [],
      still_there: 6,
      elsewhere: [],
    });
    expect(found['bad']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('Expected numeric value type')]);
    expect(found['bad_or']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('Clauses are joined by AND')]);
    expect(found['bad_page']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('Invalid page token')]);
    expect(found['bad_order']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('duplicate fields')]);
    expect(found['too_many']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
    expect(found['frame']).toEqual(['metrics.auc', 'metrics.val loss', 'params.lr rate', 'params.odd', 'tags.a.b']);
  });

  it('logs datasets and models of MLflow 3 as inputs and outputs', (context) => {
    const found = of('inputs_and_outputs', context);
    expect(found).toMatchObject({
      status: 'FINISHED',
      dataset: ['flights', expect.any(String), { 'mlflow.data.context': 'training' }, true, true],
      by_dataset: ['with data'],
      outputs: [[true, 2]],
      model: ['outside', { a: '1', b: '2' }, { kind: 'test', more: 'tags' }, 'classifier', 'READY', [['auc', 0.9]]],
      location: true,
      found: ['outside'],
    });
    expect(found['deleted']).toEqual(['RESOURCE_DOES_NOT_EXIST', expect.any(String)]);
    expect(found['changed']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('Changing param values is not allowed')]);
    expect(found['bad']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
    expect(found['slash']).toEqual(['INVALID_PARAMETER_VALUE', expect.any(String)]);
  });

  it("sees a pipeline's run with the parameters and metrics of its stages, adds to it, and cannot end or delete it", (context) => {
    const found = of('pipeline_run', context);
    expect(found).toMatchObject({
      experiment: ['flightDelay', 'flightDelay'],
      status: 'RUNNING',
      name: 'nightly-7',
      user: 'ann',
      params: {
        source: 'flights.parquet',
        'split.fraction': '0.2',
        features: '["a", "b"]',
        'train/trainer.kind': 'gbdt',
        'train/trainer.trees': '200',
        'train/target': 'delayed',
        'evaluate/metric': 'auc',
      },
      metrics: { 'train/loss': 0.6, 'evaluate/auc': 0.71 },
      history: [0.7, 0.6],
      tags: { 'mlflow.source.name': 'flightDelay', 'mlflow.source.type': 'JOB', 'millrace.workflowId': 'nightly-7' },
      found: ['nightly-7'],
      after: ['RUNNING', 7],
    });
    expect(found['delete']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('cancel it first')]);
    expect(found['delete_experiment']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('cancel them first')]);
  });

  it('is told plainly of what is left out', (context) => {
    const found = of('left_out', context);
    expect(found['traces']).toEqual(['ENDPOINT_NOT_FOUND', expect.stringContaining('This server does not do traces')]);
    expect(found['prompts']).toEqual(['ENDPOINT_NOT_FOUND', expect.stringContaining('This server does not do scorers')]);
  });

  it('does what docs/tracking.md shows', (context) => {
    expect(of('example_of_the_page', context)['printed']).toMatch(/^0 +[0-9a-f]{32} +0\.01 +0\.1$/m);
  });

  it('draws a long history from points that lie evenly', (context) => {
    const found = of('sampled', context);
    expect(found['interval']).toEqual([10, 0, 999, true]);
    expect(found['part']).toEqual([5, 100, 200]);
    expect(found['bulk']).toBe(1000);
  });
});

describe("the API of MLflow's protocol", () => {
  const ask = async (path: string, body?: unknown) => {
    const answer = await fetch(
      `${url}${path}`,
      body === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
    );
    return { status: answer.status, text: await answer.text() };
  };

  it('says who it is', async () => {
    expect(await ask('/health')).toEqual({ status: 200, text: 'OK' });
    expect((await ask('/version')).text).toMatch(/^3\.\d+\.\d+$/);
    expect(JSON.parse((await ask('/api/3.0/mlflow/server-info')).text)).toMatchObject({ workspaces_enabled: false });
  });

  it('refuses what it cannot read with the error of MLflow', async () => {
    expect(await ask('/api/2.0/mlflow/runs/log-metric', { run_id: 'x' })).toEqual({
      status: 400,
      text: JSON.stringify({
        error_code: 'INVALID_PARAMETER_VALUE',
        message: "Invalid value for the request: 'key' is missing; 'value' must be a number; 'timestamp' must be an integer.",
      }),
    });
    expect((await ask('/api/2.0/mlflow/nothing')).text).toContain('ENDPOINT_NOT_FOUND');
    const broken = await fetch(`${url}/api/2.0/mlflow/runs/create`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' });
    expect([broken.status, await broken.json()]).toEqual([400, expect.objectContaining({ error_code: 'INVALID_PARAMETER_VALUE' })]);
  });

  it('gives a history of a hundred thousand points page by page, each point once', async () => {
    const { run } = JSON.parse((await ask('/api/2.0/mlflow/runs/create', { experiment_id: '0' })).text) as { run: { info: { run_id: string } } };
    const runId = run.info.run_id;
    const points = 100_000;
    for (let from = 0; from < points; from += 10_000)
      await store.metrics.log({
        runId,
        points: Array.from({ length: 10_000 }, (_, i) => ({
          key: 'm',
          step: from + i,
          value: (from + i) % 7,
          at: new Date(1_700_000_000_000 + Math.floor((from + i) / 3)).toISOString(),
        })),
      });
    const steps = new Set<number>();
    let token: string | undefined = '';
    let pages = 0;
    while (token !== undefined) {
      const { text } = await ask(`/api/2.0/mlflow/metrics/get-history?run_id=${runId}&metric_key=m&max_results=25000&page_token=${encodeURIComponent(token)}`);
      const page = JSON.parse(text) as { metrics: { step: number }[]; next_page_token?: string };
      for (const { step } of page.metrics) steps.add(step);
      pages++;
      token = page.next_page_token;
    }
    expect(steps.size).toBe(points);
    expect(pages).toBe(5);
  });

  it('sends a page of many runs piece by piece', async () => {
    const { experiment_id: experiment } = JSON.parse((await ask('/api/2.0/mlflow/experiments/create', { name: 'many' })).text) as { experiment_id: string };
    await Promise.all(Array.from({ length: 620 }, () => ask('/api/2.0/mlflow/runs/create', { experiment_id: experiment, start_time: '1700000000000' })));
    const { text } = await ask('/api/2.0/mlflow/runs/search', { experiment_ids: [experiment], max_results: 610 });
    const page = JSON.parse(text) as { runs: { info: { run_id: string } }[]; next_page_token?: string };
    expect(new Set(page.runs.map((run) => run.info.run_id)).size).toBe(610);
    expect(page.next_page_token).toBeDefined();
  });
});
