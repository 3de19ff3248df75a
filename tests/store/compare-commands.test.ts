/** `millrace runs list`, `runs show` and `models compare`, as a person types them, over a store of real records. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runCommandLine } from '../../cli/program.ts';
import type { ModelCard } from '../../contracts/model-card.ts';
import type { ModelComparison } from '../../contracts/model-comparison.ts';
import { latencyBin } from '../../contracts/serving-bins.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { bareCard } from '../support/bare-card.ts';
import { freshStore } from '../support/database.ts';
import { hashOf, recordRun } from '../support/recorded-run.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

let folder: string;
let store: Store & { readonly databaseUrl: string };
let artifacts: Artifacts;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-compare-'));
  store = await freshStore();
  artifacts = await openArtifacts(join(folder, 'artifacts'));
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, 'state'));
  vi.stubEnv('MILLRACE_ARTIFACTS', `file://${join(folder, 'artifacts')}`);
  vi.stubEnv('DATABASE_URL', store.databaseUrl);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

const millrace = async (...args: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
  const terminal = recordedTerminal();
  const code = await runCommandLine(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
};

describe('millrace runs list', () => {
  beforeEach(async () => {
    for (const [name, trees, auc, team] of [
      ['small', 50, 0.68, 'risk'],
      ['medium', 200, 0.71, 'risk'],
      ['large', 1_000, 0.7, 'sales'],
    ] as const) {
      const { runId } = await recordRun(store, { name, params: { trees, split: { by: 'time' } }, ...(name === 'large' ? {} : { end: 'completed' }) }, [
        {
          name: 'evaluate',
          input: {},
          output: {},
          metrics: [
            { key: 'test.auc', value: auc },
            { key: 'interval.auc.low', value: auc - 0.01 },
            { key: 'interval.auc.high', value: auc + 0.01 },
          ],
        },
      ]);
      await store.runs.setTag(runId, 'team', team);
    }
    await recordRun(store, { name: 'other', pipeline: 'spam', end: 'failed' }, []);
  });
  const names = async (...args: string[]): Promise<readonly string[]> =>
    (JSON.parse((await millrace('runs', 'list', ...args, '--json')).out) as { workflowId: string }[]).map(({ workflowId }) => workflowId);

  it('finds runs by pipeline, status, time, parameters, metrics and tags, all of which have to fit', async () => {
    expect(await names()).toEqual(['other', 'large', 'medium', 'small']);
    expect(await names('--pipeline', 'spam')).toEqual(['other']);
    expect(await names('--status', 'running,failed')).toEqual(['other', 'large']);
    expect(await names('--since', '1 hour')).toHaveLength(4);
    expect(await names('--until', '2020-01-01')).toEqual([]);
    expect(await names('--param', 'trees>=200')).toEqual(['large', 'medium']);
    expect(await names('--param', 'split.by=time', '--param', 'trees<1000')).toEqual(['medium', 'small']);
    expect(await names('--metric', 'auc>=0.7')).toEqual(['large', 'medium']);
    expect(await names('--metric', 'test.auc>0.7', '--tag', 'team=risk')).toEqual(['medium']);
    expect(await names('--tag', 'team!=risk')).toEqual(['large']);
    expect(await names('--tag', 'team~SAL')).toEqual(['large']);
    expect(await names('--limit', '1')).toEqual(['other']);
    expect(await names('--metric', 'evaluate/test.auc>0.7')).toEqual(['medium']);
    expect(await names('--filter', "metrics.`evaluate/test.auc` >= 0.7 and params.`split.by` = 'time' and tags.team LIKE 'ri%'")).toEqual(['medium']);
    expect(await names('--filter', "attributes.status = 'running'")).toEqual(['large']);
    expect((await millrace('runs', 'list', '--filter', 'metrics.auc >')).code).toBe(2);
  });

  it('orders by any column, those without a value last, and takes SQL for the text that it is', async () => {
    expect(await names('--order', '-metric.auc')).toEqual(['medium', 'large', 'small', 'other']);
    expect(await names('--order', 'metric.auc desc')).toEqual(['medium', 'large', 'small', 'other']);
    expect(await names('--order', 'metric.auc')).toEqual(['small', 'large', 'medium', 'other']);
    expect(await names('--order', 'started')).toEqual(['small', 'medium', 'large', 'other']);
    expect(await names('--param', "trees'; drop table runs; --=1")).toEqual([]);
    expect(await names('--tag', "team=x' or '1'='1")).toEqual([]);
    expect(await names()).toHaveLength(4);
  });

  it('shows the columns that are asked for, else the usual ones and those that were spoken of', async () => {
    const { out } = await millrace('runs', 'list', '--columns', 'workflow,param.trees,metric.auc,tag.team,commit', '--order', '-metric.auc', '--limit', '2');
    expect(out).toBe(
      'WORKFLOW  PARAM.TREES  METRIC.AUC  TAG.TEAM  COMMIT\nmedium            200      0.7100  risk      c0ffee\nlarge            1000      0.7000  sales     c0ffee\n',
    );
    const spoken = await millrace('runs', 'list', '--metric', 'auc>0.7');
    expect(spoken.out).toMatch(/^RUN +PIPELINE +STATUS +STARTED +TOOK +TRIGGER +WORKFLOW +METRIC\.AUC\n/);
    expect((await millrace('runs', 'list', '--pipeline', 'none')).out).toBe('No run fits.\n');
  });

  it('says what a comparison and a column look like where they do not', async () => {
    for (const [args, told] of [
      [['--metric', 'auc'], "Write --metric 'NAME>=VALUE'"],
      [['--metric', 'auc>high'], 'compares with no number'],
      [['--columns', 'speed'], 'there is no column speed'],
      [['--order', '-speed'], 'there is no column speed'],
      [['--status', 'done'], 'there is no status done'],
    ] as const) {
      const { code, err } = await millrace('runs', 'list', ...args);
      expect(code).toBe(2);
      expect(err).toContain(told);
    }
  });

  it('millrace runs show tells metrics with their intervals, and tags', async () => {
    const { out } = await millrace('runs', 'show', 'medium');
    expect(out).toMatch(/METRIC +STAGE +VALUE +INTERVAL/);
    expect(out).toMatch(/test\.auc +evaluate +0\.7100 +0\.7000 to 0\.7200/);
    expect(out).not.toContain('interval.auc');
    expect(out).toContain('Tags: team risk\n');
  });
});

type Evaluation = NonNullable<ModelCard['evaluation']>;
const evaluation = (auc: number, more: Partial<Evaluation> = {}): Evaluation => ({
  format: 'millrace-evaluation/2',
  predictor: hashOf('p'),
  on: hashOf('test'),
  rows: 1_000,
  task: 'binary',
  classes: ['no', 'yes'],
  threshold: 0.5,
  metric: 'auc',
  metrics: { auc, logLoss: 1 - auc, f1: 0.5 },
  intervals: { auc: { low: auc - 0.01, high: auc + 0.01, method: 'bootstrap' }, f1: { low: 0.4, high: 0.6, method: 'bootstrap' } },
  confidence: 0.95,
  champion: null,
  slices: [
    {
      column: 'origin',
      metric: 'auc',
      values: [
        { value: 'ATL', rows: 500, metric: auc, low: auc - 0.02, high: auc + 0.02, metrics: {} },
        { value: 'ORD', rows: 300, metric: auc - 0.2, low: auc - 0.25, high: auc - 0.15, metrics: {} },
      ],
      tooSmall: 0,
      withoutValue: 0,
    },
  ],
  curves: {
    roc: [
      { threshold: 1, falsePositiveRate: 0, truePositiveRate: 0 },
      { threshold: 0.5, falsePositiveRate: 0.2, truePositiveRate: auc },
      { threshold: 0, falsePositiveRate: 1, truePositiveRate: 1 },
    ],
  },
  business: {},
  tests: [],
  importance: null,
  explanations: [],
  accepted: true,
  problems: [],
  warnings: [],
  ...more,
});

async function version(card: Partial<ModelCard>): Promise<void> {
  const { version: number } = await store.models.register({
    model: 'late',
    predictor: hashOf(`p${String(card.version)}`),
    metrics: { auc: 0.5 },
    evaluation: null,
  });
  const { sha256 } = await artifacts.putJson(bareCard({ ...card, version: number }));
  await store.models.setCard({ model: 'late', version: number, card: sha256 });
}

const part = (name: string, rows: number) => ({ role: 'training', id: hashOf(name), name, rows }) as const;

describe('millrace models compare', () => {
  beforeEach(async () => {
    await version({
      evaluation: evaluation(0.7),
      trainer: { name: 'gbdt', parameters: { trees: 200, depth: 6 } },
      data: [part('june', 900)],
      onnxSizeBytes: 20_480,
    });
    const comparison = {
      metric: 'auc',
      method: 'delong',
      improvement: 0.05,
      low: 0.03,
      high: 0.07,
      confidence: 0.95,
      pValue: 0.001,
      atLeast: 0,
      pNoBetter: 0.0005,
    } as const;
    await version({
      evaluation: evaluation(0.75, { champion: { model: 'late', version: 1, metrics: { auc: 0.7 }, comparison } }),
      trainer: { name: 'gbdt', parameters: { trees: 400, depth: 6 } },
      data: [part('july', 1_100)],
      onnxSizeBytes: 40_960,
    });
    await store.stats.add([
      {
        server: 's',
        endpoint: 'late',
        model: 'late',
        version: 2,
        from: '2026-01-01T00:00:00.000Z',
        requests: 100,
        errors: 1,
        latencyMsSum: 200,
        latencyMsMax: 9,
        latency: [latencyBin(2), 99, latencyBin(9), 1],
      },
    ]);
  });

  it('sets parameters, data, metrics with intervals, slices, size and latency beside each other', async () => {
    const { out } = await millrace('models', 'compare', 'late@1', '2');
    expect(out).toMatch(/size +20\.0 KiB +40\.0 KiB/);
    expect(out).toMatch(/latency +– +p50 \d\.\d\d ms, p99 /);
    expect(out).toContain('On the same rows: late 2 is better in auc by 0.0500 (+0.0300 to +0.0700, p 0.0010, delong).');
    expect(out).toMatch(/auc +0\.7000 \(0\.6900 to 0\.7100\) +0\.7500 \(0\.7400 to 0\.7600\) +\+0\.0500 +better/);
    expect(out).toMatch(/f1 .*not told apart/);
    expect(out).toMatch(/origin ORD +auc/);
    expect(out).toMatch(/trainer\.trees +200 +400/);
    expect(out).not.toContain('trainer.depth');
    expect(out).toMatch(/training +june .*900 rows +july .*1,100 rows +differs/);
  });

  it('turns the paired test round where the first was judged against the second', async () => {
    const { a, b, paired, metrics } = JSON.parse((await millrace('models', 'compare', 'late/2', 'late/1', '--json')).out) as ModelComparison;
    expect([a.version, b.version]).toEqual([2, 1]);
    expect(paired).toMatchObject({ improvement: -0.05, low: -0.07, high: -0.03 });
    expect(metrics.find(({ metric }) => metric === 'auc')?.verdict).toBe('worse');
  });

  it('says that rows differ, and compares what the registry has where a version has no card', async () => {
    await version({ evaluation: evaluation(0.76, { on: hashOf('other rows') }) });
    expect((await millrace('models', 'compare', 'late/1', '3')).out).toContain('They were judged on different rows');
    await store.models.register({ model: 'bare', predictor: hashOf('bare'), metrics: { auc: 0.6 }, evaluation: null });
    const { code, out } = await millrace('models', 'compare', 'late/1', 'bare');
    expect(code).toBe(0);
    expect(out).toMatch(/auc +0\.7000 .* 0\.6000 +-0\.1000/);
    expect((await millrace('models', 'compare', 'late/1', '9')).err).toContain('There is no version 9 of model late.');
    expect(await millrace('models', 'compare', 'late/1/2', '9')).toMatchObject({ code: 2 });
  });

  it('draws a page that is whole in itself', async () => {
    const out = join(folder, 'compare.html');
    expect((await millrace('models', 'compare', 'late/1', 'late/2', '--html', out)).code).toBe(0);
    const page = await readFile(out, 'utf8');
    expect(page).toContain('<h1>late 1 and late 2</h1>');
    for (const told of ['Both were judged on the same rows', '<h3>ROC</h3>', 'Parameters that differ', 'Slices in which A and B differ most'])
      expect(page).toContain(told);
    expect(page.match(/<svg/g)?.length).toBeGreaterThanOrEqual(4);
    expect(page).not.toMatch(/<script|https?:|NaN/);
  });
});
