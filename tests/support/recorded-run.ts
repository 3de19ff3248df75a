import { createHash } from 'node:crypto';
import type { Store } from '../../store/store.ts';
import type { DatasetDraft, StageMetric } from '../../store/stages.ts';

/** A hash that stands for something's content. */
export const hashOf = (what: string): string => createHash('sha256').update(what).digest('hex');

export interface RecordedStage {
  readonly name: string;
  readonly kind?: string;
  readonly input: unknown;
  readonly output: unknown;
  readonly summary?: string;
  readonly datasets?: readonly DatasetDraft[];
  readonly metrics?: readonly StageMetric[];
  readonly cachedFrom?: { readonly runId: string; readonly stage: string };
  /** Left running. */
  readonly open?: boolean;
  /** Source of an ingest, as its fingerprint has it. */
  readonly content?: string;
}

export const datasetRef = (name: string, content = name, rows = 100) => ({ kind: 'dataset', id: hashOf(content), name, rows }) as const;

/** A dataset as a stage records it. */
export const draft = (name: string, kind: string, parents: readonly string[] = [], more: Partial<DatasetDraft> = {}): DatasetDraft => ({
  id: hashOf(name),
  name,
  rows: 100,
  columns: [
    { name: 'distance', type: 'number' },
    { name: 'late', type: 'boolean' },
  ] as DatasetDraft['columns'],
  sizeBytes: 1_000,
  kind,
  parents,
  ...more,
});

/** Begins a run and records stages as its activities do; the run goes on unless it is ended. */
export async function recordRun(
  store: Pick<Store, 'runs' | 'stages'>,
  run: { readonly name: string; readonly pipeline?: string; readonly params?: unknown; readonly end?: 'completed' | 'failed' | 'cancelled' },
  stages: readonly RecordedStage[],
): Promise<{ readonly runId: string; readonly token: (stage: string) => number }> {
  const runId = hashOf(run.name).slice(0, 32);
  await store.runs.begin({
    runId,
    workflowId: run.name,
    temporalRunId: 'r1',
    pipeline: run.pipeline ?? 'flights',
    params: run.params ?? {},
    trigger: { kind: 'cli' },
    buildId: 'b1',
    git: { remote: 'https://git.example/flights.git', commit: 'c0ffee', clean: true },
  });
  const tokens = new Map<string, number>();
  for (const [ordinal, stage] of stages.entries()) {
    const { token } = await store.stages.begin({
      runId,
      name: stage.name,
      kind: stage.kind ?? stage.name,
      ordinal,
      attempt: 1,
      fingerprint: hashOf(`${run.name} ${stage.name}`),
      fingerprintParts: { code: hashOf(`code of ${stage.name}`), ...(stage.content === undefined ? {} : { source: { sha256: hashOf(stage.content) } }) },
      input: stage.input,
      useCache: false,
    });
    tokens.set(stage.name, token);
    if (stage.open === true) continue;
    await store.stages.complete({
      runId,
      name: stage.name,
      token,
      output: { value: stage.output, summary: stage.summary ?? stage.name },
      ...(stage.datasets === undefined ? {} : { datasets: stage.datasets }),
      ...(stage.metrics === undefined ? {} : { metrics: stage.metrics }),
      ...(stage.cachedFrom === undefined ? {} : { cachedFrom: stage.cachedFrom }),
    });
  }
  if (run.end !== undefined) await store.runs.end({ runId, status: run.end });
  return { runId, token: (stage) => tokens.get(stage) ?? 0 };
}
