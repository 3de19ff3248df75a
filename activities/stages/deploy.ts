import { createHash } from 'node:crypto';
import { ApplicationFailure, WorkflowUpdateFailedError } from '@temporalio/client';
import type { DeploymentRef, VersionRef } from '../../contracts/references.ts';
import { type ErrorReport, MillraceError } from '../../contracts/errors.ts';
import { DeployInputSchema } from '../../contracts/stages.ts';
import type { Decisions } from '../../contracts/decisions.ts';
import { PredictorSchema } from '../../contracts/signature.ts';
import { compileDecisions } from '../../data/row-decisions.ts';
import type { ActivityDependencies } from '../dependencies.ts';
import { updateEndpoint } from '../endpoint-client.ts';
import { defineStage } from '../stage-definition.ts';

/**
 * Hands the version to its endpoint's workflow. The rollout's id comes from run and stage, so that an attempt that is
 * repeated asks for the same rollout; the record, with its undo, is there before the endpoint hears of it.
 */
export const deployStage = defineStage({
  input: DeployInputSchema,
  cacheable: false,
  run: async ({ version, endpoint, rollout: strategy, decide, whenBusy }, { call, deps, token }) => {
    const decisions = decide === undefined ? undefined : await keepDecisions(deps, version, decide);
    const rollout = createHash('sha256').update(`${call.runId}\n${call.stage}`).digest('hex').slice(0, 32);
    const run = await deps.store.runs.get(call.runId);
    await deps.store.rollouts.create({
      id: rollout,
      endpoint,
      model: version.model,
      version: version.version,
      strategy,
      by: { runId: call.runId, stage: call.stage, token },
    });
    await updateEndpoint(deps, endpoint, 'rollout', {
      rollout,
      version: { model: version.model, version: version.version, predictor: version.predictor, ...(decisions === undefined ? {} : { decisions }) },
      strategy,
      workflowId: run.workflowId,
      reason: `run ${call.runId}`,
      whenBusy,
    }).catch(async (error: unknown) => {
      throw await refused(deps, rollout, error);
    });
    const output: DeploymentRef = { kind: 'deployment', endpoint, version, rollout };
    return { output, summary: `${endpoint} has taken it up` };
  },
});

/** Another rollout is under way, and this one was not to wait: it has ended before it began. */
async function refused(deps: ActivityDependencies, rollout: string, error: unknown): Promise<unknown> {
  const cause = error instanceof WorkflowUpdateFailedError ? error.cause : undefined;
  if (!(cause instanceof ApplicationFailure) || cause.type !== 'CONFLICT') return error;
  const refusal = MillraceError.fromReport(cause.details?.[0] as ErrorReport);
  await deps.store.rollouts.finish({ id: rollout, status: 'failed', reason: refusal.message });
  return refusal;
}

/** Any key does where rules are only checked: servers have the project's own. */
const NO_KEY = 'checked';

/** Rules that do not fit the version are told here, with every problem, and not by the server. */
async function keepDecisions(deps: ActivityDependencies, version: VersionRef, decide: Decisions): Promise<string> {
  const { signature } = PredictorSchema.parse(await deps.artifacts.getJson(version.predictor));
  compileDecisions(decide, signature, NO_KEY);
  return (await deps.artifacts.putJson(decide)).sha256;
}
