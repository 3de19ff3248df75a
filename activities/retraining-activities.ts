import { heartbeat, Context } from '@temporalio/activity';
import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { ExperimentEvidence, RetrainingOutcome } from '../contracts/retraining.ts';
import { MEMO_TRIGGER, type Trigger } from '../contracts/run.ts';
import { changeInWindows } from './change-in-windows.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import { readyTune } from './ready-tune.ts';
import { outcomeOf } from './retraining-outcome.ts';
import type { RetrainingActivities } from './types.ts';

const FIRST_LOOK_MS = 100;
const LOOK_EVERY_MS = 2_000;
/** Requests that a run is told in full; the rest stand in the ledger. */
const MOST_TOLD = 20;
/** So much evidence of one request goes with a run: a memo has little room. */
const TOLD_EVIDENCE_BYTES = 10_000;
const MOST_INSTANT_LENGTH = 40;
const EVIDENCE_RUNS = 10;
const EVIDENCE_TRIGGERS = 50;

/** What the controller of a pipeline's retraining does in the world: start runs, follow them, write the ledger, tell people. */
export function createRetrainingActivities(deps: ActivityDependencies): RetrainingActivities {
  const { store } = deps;
  const guard =
    <Input, Output>(work: (input: Input) => Promise<Output>) =>
    async (input: Input): Promise<Output> => {
      try {
        return await work(input);
      } catch (error) {
        throw toActivityFailure(error, 1, (original) => {
          deps.log('error', 'retraining', { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    };
  return {
    noteTriggers: guard((input) => store.retraining.put(input)),
    startRetraining: guard(async ({ pipeline, workflowId, reasons, evidence }) => {
      const found = evidence === undefined ? new Map<number, unknown>() : await store.retraining.evidence(pipeline, evidence.controller, evidence.numbers);
      const requests: NonNullable<Trigger['requests']> = reasons.slice(0, MOST_TOLD).map(({ reason, source }, i) => {
        const told = shortened(found.get(evidence?.numbers[i] ?? -1));
        return { reason, source, ...(told === undefined ? {} : { evidence: told }) };
      });
      const trigger: Trigger = {
        kind: 'retrain',
        reason: [...new Set(reasons.map((r) => r.reason))].join('; ').slice(0, 2_000),
        source: [...new Set(reasons.map((r) => r.source))].join(', ').slice(0, 200),
        requests: requests.some(({ evidence: told }) => changePointOf(told) !== undefined) ? requests : await withChange(deps, pipeline, requests),
      };
      try {
        await deps.client.workflow.start(pipeline, {
          workflowId,
          taskQueue: WORKFLOW_QUEUE,
          args: [{}],
          memo: { [MEMO_TRIGGER]: trigger },
          workflowIdReusePolicy: 'REJECT_DUPLICATE',
        });
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error; // an earlier attempt has started it
      }
    }),
    followRetraining: guard(async ({ workflowId }) => {
      const status = await untilEnded(deps, workflowId);
      return recordedOutcome(deps, workflowId, status);
    }),
    noteSetback: guard(async ({ pipeline, setback, requestExperiment }) => {
      const { fate, because, failures, untilMs, workflowId } = setback;
      const now = new Date().toISOString();
      await store.alerts.raise({
        kind: 'retraining',
        pipeline,
        subject: 'retraining',
        what: `Retraining ${pipeline} ${fate === 'failed' ? 'failed' : 'was rejected'} ${failures === 1 ? '' : `for the ${ordinal(failures)} time in a row `}(${because}); the model in service stays. None begins before ${new Date(untilMs).toISOString()}.`,
        since: now,
        against: null,
        sure: null,
        look: `/api/v1/retrainings/${pipeline}`,
        command: `millrace retrainings list ${pipeline}`,
      });
      if (!requestExperiment) return;
      const { evidence, tune } = await experimentOf(deps, pipeline);
      await store.retraining.openExperiment({
        pipeline,
        workflowId,
        because: `${String(failures)} retrainings in a row did not end well; the last one: ${because}`,
        evidence,
        tune,
      });
      await store.alerts.raise({
        kind: 'experiment',
        pipeline,
        subject: 'experiment',
        what: `Retraining alone does not help ${pipeline}: ${String(failures)} in a row did not end well. ${tune === null ? 'Someone should look at its data and its model' : 'A search for other parameters is ready'}.`,
        since: now,
        against: null,
        sure: null,
        look: `/api/v1/experiments?pipeline=${pipeline}`,
        command: `millrace retrainings experiment ${pipeline}`,
      });
    }),
    noteRecovery: guard(async ({ pipeline, by, comment }) => {
      await store.retraining.closeExperiment({ pipeline, by, comment });
      await store.alerts.resolve({ kind: 'experiment', pipeline, subject: 'experiment' });
      if (by === null) await store.alerts.resolve({ kind: 'retraining', pipeline, subject: 'retraining' });
    }),
    awaitRetraining: guard(async ({ workflowId }) => ({ status: await untilEnded(deps, workflowId) })),
    noteRetraining: () => Promise.resolve(),
  };
}

/** Evidence as it goes with a run; of long evidence since when things are otherwise, which training goes by. */
function shortened(evidence: unknown): unknown {
  if (evidence === undefined || JSON.stringify(evidence).length <= TOLD_EVIDENCE_BYTES) return evidence;
  const changePoint = changePointOf(evidence);
  return changePoint === undefined ? undefined : { changePoint };
}

function changePointOf(evidence: unknown): string | undefined {
  const changePoint = typeof evidence === 'object' && evidence !== null && 'changePoint' in evidence ? evidence.changePoint : undefined;
  return typeof changePoint === 'string' && changePoint.length <= MOST_INSTANT_LENGTH ? changePoint : undefined;
}

/** Where nobody says since when things are otherwise, what the monitors' windows say of it. */
async function withChange(
  { store }: ActivityDependencies,
  pipeline: string,
  requests: NonNullable<Trigger['requests']>,
): Promise<NonNullable<Trigger['requests']>> {
  const change = await changeInWindows(store, pipeline);
  const [first, ...others] = requests;
  if (change === null || first === undefined) return requests;
  const { at, found, endpoint } = change;
  const own = typeof first.evidence === 'object' && first.evidence !== null && !Array.isArray(first.evidence) ? first.evidence : {};
  return [{ ...first, evidence: { ...own, changePoint: at, changeFound: `${found} of ${endpoint}` } }, ...others];
}

const ordinal = (n: number): string => `${String(n)}${n % 100 >= 11 && n % 100 <= 13 ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th')}`;

/** The status with which the run closed, as Temporal names it, in lower case. */
async function untilEnded(deps: ActivityDependencies, workflowId: string): Promise<string> {
  const handle = deps.client.workflow.getHandle(workflowId);
  for (let restMs = FIRST_LOOK_MS; ; restMs = Math.min(restMs * 1.5, LOOK_EVERY_MS)) {
    const status = await handle.describe().then(
      (description) => description.status.name,
      (error: unknown) => {
        if (error instanceof WorkflowNotFoundError) return 'NOT_FOUND';
        throw error;
      },
    );
    if (status !== 'RUNNING') return status.toLowerCase();
    heartbeat();
    await Context.current().sleep(restMs);
  }
}

/** What the records of the run tell; of one that left none, or that was ended from outside, what Temporal tells. */
async function recordedOutcome(deps: ActivityDependencies, workflowId: string, status: string): Promise<RetrainingOutcome> {
  const { store } = deps;
  const run = await store.runs.findByWorkflow(workflowId);
  const isCancelled = status === 'cancelled' || status === 'canceled' || status === 'terminated';
  if (run === null) {
    const nowMs = Date.now();
    const because = `its run left no records: ${status}`;
    return { fate: isCancelled ? 'cancelled' : 'failed', because, runId: null, beganMs: nowMs, endedMs: nowMs, gatesMs: 0, rolloutMs: 0 };
  }
  const [approvals, rollouts] = await Promise.all([store.approvals.list({ runId: run.id }), store.rollouts.list({ runId: run.id })]);
  const outcome = outcomeOf(run, approvals, rollouts);
  if (run.status !== 'waiting' && run.status !== 'running') return outcome;
  // its record is closed by the reconciler a moment later
  return {
    ...outcome,
    endedMs: Math.max(outcome.beganMs, Date.now()),
    fate: isCancelled ? 'cancelled' : 'failed',
    because: `its run was ended from outside: ${status}`,
  };
}

/** What speaks for an experiment, from the ledger and the records of the last runs. */
async function experimentOf(
  deps: ActivityDependencies,
  pipeline: string,
): Promise<{ readonly evidence: ExperimentEvidence; readonly tune: ReturnType<typeof readyTune> }> {
  const { store } = deps;
  const [triggers, runs] = await Promise.all([
    store.retraining.list({ pipeline, limit: EVIDENCE_TRIGGERS }),
    store.runs.list({ pipeline, limit: EVIDENCE_RUNS }),
  ]);
  const metrics = await Promise.all(
    runs.map(async ({ id }) => ({ runId: id, metrics: Object.fromEntries((await store.metrics.latest(id)).map(({ key, value }) => [key, value])) })),
  );
  const stages = (await Promise.all(runs.map(({ id }) => store.stages.list(id)))).flat();
  return {
    evidence: {
      triggers: triggers.map(({ number, at, source, reason, fate, because, workflowId, runId }) => ({
        number,
        at,
        source,
        reason,
        fate,
        because,
        workflowId,
        runId,
      })),
      runs: metrics.filter((run) => Object.keys(run.metrics).length > 0),
      findings: triggers.flatMap(({ source, at, evidence }) => (evidence === null || evidence === undefined ? [] : [{ source, at, evidence }])),
    },
    tune: readyTune(pipeline, stages),
  };
}
