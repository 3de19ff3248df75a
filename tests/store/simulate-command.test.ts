/** `millrace simulate` with what the store knows: the pipeline's last training, and an endpoint's log. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { datasetDraft } from '../../activities/dataset-record.ts';
import { runCommandLine } from '../../cli/program.ts';
import { FeaturesSchema } from '../../contracts/features.ts';
import type { SimulationResult } from '../../contracts/simulation.ts';
import type { StoredDataset } from '../../data/dataset.ts';
import { ingestSource } from '../../data/ingest.ts';
import { openArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

// the first one loads trainers and plots
vi.setConfig({ testTimeout: 120_000 });

let folder: string;
let store: Store & { readonly databaseUrl: string };
let policy: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-simulate-store-'));
  store = await freshStore();
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, 'state'));
  vi.stubEnv('MILLRACE_ARTIFACTS', `file://${join(folder, 'artifacts')}`);
  vi.stubEnv('DATABASE_URL', store.databaseUrl);
  policy = join(folder, 'policy.json');
  await writeFile(
    policy,
    JSON.stringify({
      simulation: { blocks: { count: 6 }, start: 1 },
      policies: [{ name: 'often', train: { window: 'sliding', blocks: 1 }, retrain: { every: 1 } }],
    }),
  );
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

const simulate = async (...args: readonly string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
  const terminal = recordedTerminal();
  const code = await runCommandLine(['simulate', 'prices', '--policy', policy, ...args], terminal);
  return { code, out: terminal.out(), err: terminal.err() };
};

/** A run of the pipeline `prices` that split a dataset and trained on a part of it. */
async function trained({ ref: dataset, manifest }: StoredDataset): Promise<void> {
  const runId = 'a'.repeat(32);
  await store.runs.begin({ runId, workflowId: 'prices-1', temporalRunId: 't', pipeline: 'prices', params: {}, trigger: { kind: 'manual' } });
  const features = FeaturesSchema.parse({ nswprice: { kind: 'numeric' }, nswdemand: { kind: 'numeric' } });
  const stages = [
    ['split', { dataset, options: { by: 'random', testFraction: 0.2, validationFraction: 0.2, seed: 0 } }],
    ['train', { train: { ...dataset, name: 'prices-train' }, trainer: { name: 'linear', parameters: {} }, target: 'class', task: 'auto', features, seed: 0 }],
  ] as const;
  for (const [ordinal, [name, input]] of stages.entries()) {
    const { token } = await store.stages.begin({ runId, name, kind: name, ordinal, attempt: 1, fingerprint: null, input, useCache: false });
    await store.stages.complete({
      runId,
      name,
      token,
      output: {},
      datasets: name === 'split' ? [datasetDraft(dataset, manifest, { kind: 'ingest', source: {} })] : [],
    });
  }
  await store.runs.end({ runId, status: 'completed' });
}

it('takes the target, the features, the trainer and the dataset of the last run that trained', async () => {
  const artifacts = await openArtifacts(join(folder, 'artifacts'));
  const path = fileURLToPath(new URL('../fixtures/data/elec2-twelfth.csv', import.meta.url));
  await trained(await ingestSource({ source: { format: 'csv', path }, name: 'prices', artifacts, projectFolder: folder }));
  const { code, out, err } = await simulate('--json');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const result = JSON.parse(out) as SimulationResult;
  expect(result).toMatchObject({ metric: 'accuracy', rows: 3776, blocks: 6, firstScored: 2 });
  expect(result.policies[0]).toMatchObject({ retrainings: 4, cost: null });
});

it('says what is missing where nothing has trained, and which pipelines there are', async () => {
  expect((await simulate()).err).toContain('There is no pipeline prices.');
  const path = join(folder, 'few.csv');
  await writeFile(path, 'x,class\n1,a\n2,b\n');
  const told = await simulate('--data', path);
  expect(told).toMatchObject({ code: 2 });
  expect(told.err).toContain('--target');
});

it('replays what an endpoint was asked, with the labels that came since', async () => {
  const at = (hour: number): string => new Date(Date.UTC(2026, 0, 1, hour)).toISOString();
  const hours = Array.from({ length: 300 }, (_, hour) => hour);
  const lines: Readonly<Record<string, readonly object[]>> = {
    predictions: hours.map((hour) => ({
      requestId: `r${String(hour)}`,
      row: 0,
      at: at(hour),
      model: 'late',
      version: 1,
      challenger: false,
      inputs: { distance: hour % 17, origin: hour % 2 === 0 ? 'ORD' : 'ATL' },
      output: [0.5],
      latencyMs: 1,
    })),
    // the last thirty have no label yet; half way, what is late turns round
    feedback: hours
      .slice(0, 270)
      .map((hour) => ({ requestId: `r${String(hour)}`, row: 0, label: hour % 17 > 8 === hour < 135 ? 'late' : 'onTime', at: at(hour + 1) })),
  };
  for (const [kind, records] of Object.entries(lines)) {
    await mkdir(join(folder, 'state', kind, 'flights'), { recursive: true });
    await writeFile(join(folder, 'state', kind, 'flights', '2026-01-01T00-a.jsonl'), records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  }
  const { code, out, err } = await simulate('--endpoint', 'flights', '--compare', '--json');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const { rows, policies } = JSON.parse(out) as SimulationResult;
  expect(rows).toBe(270);
  const [quality, still] = ['often', 'static'].map((name) => policies.find((policy) => policy.name === name)?.quality ?? 0);
  expect(quality).toBeGreaterThan(0.7);
  expect(still).toBeLessThan(0.6);
  expect(policies[0]?.blocks.map(({ at: began }) => began?.slice(0, 10))).toEqual(['2026-01-02', '2026-01-04', '2026-01-06', '2026-01-08', '2026-01-10']);
});
