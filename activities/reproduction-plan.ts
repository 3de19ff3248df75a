import { MillraceError } from '../contracts/errors.ts';
import { inKeyOrder } from '../contracts/key-order.ts';
import { type ReproduceParameters, type ReproductionPlan, whyNotAgain } from '../contracts/reproduction.ts';
import type { StageKind } from '../contracts/stages.ts';
import type { Store } from '../store/store.ts';

/**
 * What of a run can be done again, in the order in which it was done.
 * @throws NOT_FOUND for no such run or stage, CONFLICT where nothing can be done again
 */
export async function planReproduction(
  store: Pick<Store, 'runs' | 'stages' | 'builds'>,
  { run: runId, stage: only, code }: ReproduceParameters,
): Promise<ReproductionPlan> {
  const run = await store.runs.get(runId);
  const stages = await store.stages.list(runId);
  if (only !== undefined && !stages.some(({ name }) => name === only)) {
    throw new MillraceError('NOT_FOUND', `Run ${runId} has no stage ${only}.`, { fix: `It has ${stages.map(({ name }) => name).join(', ') || 'none'}.` });
  }
  const wanted = stages.filter(({ name }) => only === undefined || name === only);
  const again = wanted.filter((record) => whyNotAgain(record) === null);
  if (again.length === 0) {
    throw new MillraceError('CONFLICT', `Nothing of run ${runId} can be done again.`, {
      problems: wanted.map((record) => ({ path: record.name, message: whyNotAgain(record) ?? '' })),
    });
  }
  const kept = code === 'recorded' && run.buildId !== null && (await store.builds.find(run.buildId)) !== null;
  return {
    pipeline: run.pipeline,
    buildId: kept ? run.buildId : null,
    stages: again.map(({ name, kind, pool }) => ({ stage: name, kind: kind as StageKind, pool: pool ?? 'cpu' })),
  };
}

/** The input of a stage, as its record holds it. */
export async function recordedInput(
  store: Pick<Store, 'stages'>,
  { run, stage }: { readonly run: string; readonly stage: string },
): Promise<{ readonly input: unknown }> {
  const record = await store.stages.find(run, stage);
  if (record === null) throw new MillraceError('NOT_FOUND', `Run ${run} has no stage ${stage} any more.`);
  return { input: inKeyOrder(record.input) };
}
