import { createHash } from 'node:crypto';
import { MillraceError } from '../contracts/errors.ts';
import type { LabelItemDraft } from '../contracts/labels.ts';
import { poolQueue } from '../contracts/queues.ts';
import type { VersionRef } from '../contracts/references.ts';
import type { RolloutOutcome } from '../contracts/stages.ts';
import type { Store } from '../store/store.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import { planReproduction, recordedInput } from './reproduction-plan.ts';
import { planTuning } from './tuning-plan.ts';
import type { RunActivities } from './types.ts';

/** A worker that has polled within this time counts as there. */
const POLLED_WITHIN_MS = 60_000;

/**
 * The light engine steps of a run, called as local activities by its workflow: records and gates. Each is keyed by what
 * it records, so that it may run twice.
 */
export function createRunActivities(deps: ActivityDependencies): RunActivities {
  const { store, log } = deps;
  const guard =
    <Input, Output>(work: (input: Input) => Promise<Output>) =>
    async (input: Input): Promise<Output> => {
      try {
        return await work(input);
      } catch (error) {
        // a record that cannot be written now is written later: the run waits for its database
        throw toActivityFailure(error, 1, (original) => {
          log('error', 'a record could not be written', { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    };
  return {
    beginRun: guard(async (input) => {
      const build = await deps.builds.find(input.buildId);
      const begun = await store.runs.begin({
        runId: runIdOf(input.workflowId, input.temporalRunId),
        workflowId: input.workflowId,
        temporalRunId: input.temporalRunId,
        pipeline: input.pipeline,
        buildId: input.buildId,
        params: input.params,
        trigger: input.trigger,
        ...(input.retryOf === undefined ? {} : { retryOf: input.retryOf }),
        ...(input.purpose === undefined ? {} : { purpose: input.purpose }),
        ...(build === null ? {} : { git: build.git }),
        ...(input.maxConcurrentRuns === undefined ? {} : { maxConcurrent: input.maxConcurrentRuns }),
      });
      if (begun.status !== 'waiting' && begun.status !== 'running') {
        throw new MillraceError('CONFLICT', `The run ${begun.runId} is ${begun.status} in the records.`, { fix: 'Start a new run.' });
      }
      return { runId: begun.runId, status: begun.status };
    }),
    endRun: guard(async ({ runId, status, error, undoProblems }) => {
      if (undoProblems && undoProblems.length > 0) await store.runs.setTag(runId, 'millrace.undoProblems', undoProblems.join('\n').slice(0, 5_000));
      await store.runs.end({ runId, status, ...(error === undefined ? {} : { error }) });
    }),
    requestApproval: guard(async ({ evidence, ...input }) => {
      const { version } = (evidence ?? {}) as { readonly version?: VersionRef | null };
      const known = version == null ? {} : { ...(await gateEvidence(store, version)) };
      await store.approvals.request({ ...input, ...(version == null ? {} : { model: version.model }), evidence: { ...(evidence as object | null), ...known } });
    }),
    recordDecision: guard(async ({ runId, gate, by, reason, approved, roles }) => {
      const { decisions } = await store.approvals.decide({
        runId,
        gate,
        who: by,
        decision: approved ? 'approve' : 'reject',
        reason,
        ...(roles === undefined ? {} : { roles }),
      });
      const standing = decisions.filter((d) => d.decision === 'approve' && d.voidedAt === null);
      return { approvals: standing.map((d) => ({ by: d.who, reason: d.reason, at: d.at })) };
    }),
    closeApproval: guard(async ({ runId, gate, status }) => {
      if (status === 'expired') await store.approvals.expire(runId, gate);
    }),
    hasPollers: guard(async ({ pool }) => {
      const { pollers } = await deps.client.workflowService.describeTaskQueue({
        namespace: deps.config.temporal.namespace,
        taskQueue: { name: poolQueue(pool) },
        taskQueueType: 2, // activity
      });
      const since = Date.now() - POLLED_WITHIN_MS;
      return pollers.some((p) => Number(p.lastAccessTime?.seconds ?? 0) * 1000 >= since);
    }),
    memoryStep: guard(async ({ pipeline, stage, steps }) => {
      const last = await store.stages.lastCompleted(pipeline, stage);
      const { batchShare = 1 } = (last?.input ?? {}) as { readonly batchShare?: number };
      return { step: Math.max(0, last === null ? 0 : steps.findIndex(({ pool, batch }) => pool === last.pool && batch === batchShare)) };
    }),
    planTuning: guard((input) => planTuning(store, input)),
    planReproduction: guard((input) => planReproduction(store, input)),
    recordedInput: guard((input) => recordedInput(store, input)),
    requestLabels: guard(async ({ queue, items, ...rest }) => {
      const { id, open } = await store.labels.request({ ...rest, name: queue, items: (await deps.artifacts.getJson(items)) as readonly LabelItemDraft[] });
      return { id, open };
    }),
    labelsOpen: guard(async ({ request }) => (await store.labels.progress(request)).open),
    closeLabels: guard(async ({ request, status }) => {
      const { progress, items } = await store.labels.close(request, status);
      const { sha256 } = await deps.artifacts.putJson({ items });
      return { closed: status !== 'answered' || progress.open === 0, answers: sha256, asked: progress.asked, open: progress.open };
    }),
    rolloutOutcome: guard(({ rollout }) => rolloutOutcome(deps, rollout)),
  };
}

/** What those who decide on a version are shown: its figures, those of the one that serves now, and what is the matter there. */
async function gateEvidence(store: Store, { model, version }: VersionRef): Promise<Readonly<Record<string, unknown>>> {
  const [record, champion, routes] = await Promise.all([store.models.version(model, version), store.models.champion(model), store.endpoints.listRoutes()]);
  const serving = routes.filter((route) => route.champion.model === model).map(({ endpoint }) => endpoint);
  const alerts = (await Promise.all(serving.map((endpoint) => store.alerts.list({ endpoint, limit: 20 })))).flat();
  return {
    metrics: record.metrics,
    evaluation: record.evaluation,
    card: record.card,
    champion: champion === null ? null : { version: champion.version, metrics: champion.metrics },
    servedBy: serving,
    alerts: alerts.map(({ id, what, severity, since }) => ({ id, what, severity, since })),
  };
}

/** The same execution always has the same id, so that a beginning that is repeated finds its record. */
function runIdOf(workflowId: string, temporalRunId: string): string {
  return createHash('sha256').update(`${workflowId}\n${temporalRunId}`).digest('hex').slice(0, 32);
}

async function rolloutOutcome(deps: ActivityDependencies, rollout: string): Promise<RolloutOutcome | null> {
  const record = await deps.store.rollouts.get(rollout);
  if (record.status !== 'completed' && record.status !== 'rolled_back' && record.status !== 'failed') return null;
  return { rollout, status: record.status, reason: record.reason ?? '' };
}
