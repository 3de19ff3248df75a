import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DefaultLogger, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker';
import { beforeAll, describe, expect, it } from 'vitest';
import { historyFromJson } from '../../testing/history-json.ts';
import { bundleWorkflows, type Change } from './bundle-workflows.ts';

/**
 * Histories of real runs, held against the code of today. Endpoints and controllers of retraining live for months and
 * move to new code while they run: a change that does not fit their histories would stop them.
 *
 * When a change is meant, and no such workflow can be running, record the histories anew:
 * `RECORD_HISTORIES=1 npx vitest run --project workflows tests/workflows/histories.test.ts`
 */
const FOLDER = fileURLToPath(new URL('./histories', import.meta.url));
const histories = readdirSync(FOLDER).filter((file) => file.endsWith('.json'));
const load = (file: string): object => historyFromJson(JSON.parse(readFileSync(join(FOLDER, file), 'utf8')));

Runtime.install({ logger: new DefaultLogger('ERROR', () => undefined) });

const replay = (workflowBundle: WorkflowBundle, file: string): Promise<void> => Worker.runReplayHistory({ workflowBundle }, load(file), file);

describe('the workflow code of today', () => {
  let bundle: WorkflowBundle;
  beforeAll(async () => {
    bundle = await bundleWorkflows();
  });

  it('is held against a history of each kind of workflow that lives long', () => {
    expect(histories.sort()).toEqual([
      'endpoint-canary.json',
      'pipeline-approved.json',
      'pipeline-rolled-back.json',
      'retraining-earlier.json',
      'retraining.json',
      'tuning.json',
    ]);
  });

  it.each(histories)('goes on where the run of %s stood', async (file) => {
    await expect(replay(bundle, file)).resolves.toBeUndefined();
  });

  it('is all in histories that tell nothing of a machine', () => {
    for (const file of histories) {
      const text = readFileSync(join(FOLDER, file), 'utf8');
      const payloads = [...text.matchAll(/"data":"([A-Za-z0-9+/=]*)"/g)].map(([, data]) => Buffer.from(data ?? '', 'base64').toString());
      expect(`${text}${payloads.join('')}`).not.toMatch(/\/tmp\/|\/home\/|\/root\/|@[a-z0-9-]+:\d+/);
    }
  });
});

describe('a change that a running workflow would not survive is found', () => {
  const changes: readonly (Change & { readonly what: string; readonly history: string })[] = [
    {
      what: 'stages of a pipeline in another order',
      history: 'pipeline-approved.json',
      file: 'tests/workflows/project/pipelines/release/pipeline.ts',
      from: "if (p.rollout !== 'none') {",
      to: "if (p.watch) await monitor('another', { every: '1 hour' });\n    if (p.rollout !== 'none') {",
    },
    {
      what: 'a gate that is not asked for any more',
      history: 'pipeline-approved.json',
      file: 'workflows/approval.ts',
      from: 'if (options.when ?? true) await waitForPeople',
      to: 'if (options.when === false) await waitForPeople',
    },
    {
      what: 'a rollback that is left out',
      history: 'pipeline-rolled-back.json',
      file: 'workflows/run.ts',
      from: 'if (run.compensations.length === 0) return;',
      to: 'if (run.compensations.length > 0) return;',
    },
    {
      what: 'a rollout that is not noted when it begins',
      history: 'endpoint-canary.json',
      file: 'workflows/endpoint.ts',
      from: "await note(active, 'begins');",
      to: '',
    },
    {
      what: 'a search that chooses otherwise',
      history: 'tuning.json',
      file: 'workflows/tuning.ts',
      from: "callStage<TrialOutput>(run, stage, 'trial',",
      to: "callStage<TrialOutput>(run, { ...stage, name: 'another', pool: 'gpu' }, 'trial',",
    },
    {
      what: 'a controller of before one entry a trigger that is taken for one of today',
      history: 'retraining-earlier.json',
      file: 'workflows/retraining.ts',
      from: "if (!patched('one entry a trigger'))",
      to: "if (pipeline === '')",
    },
    {
      what: 'a cool-down that is not kept',
      history: 'retraining.json',
      file: 'contracts/retraining-decision.ts',
      from: 'if (atMs < coolMs)',
      to: 'if (atMs < coolMs - 3_600_000_000)',
    },
  ];

  it.each(changes)('$what', async ({ history, ...change }) => {
    const bundle = await bundleWorkflows([change]);
    await expect(replay(bundle, history)).rejects.toThrow(/[Nn]ondetermin/);
  });
});
