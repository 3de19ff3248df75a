import type { Step } from '../activities/steps.ts';
import { currentRun, runStage, type StageOptions } from './run.ts';

type Call<S> = S extends Step<infer Args, infer Output> ? (...args: Args) => Promise<Output> : never;
export type StepCalls<Steps> = { readonly [Name in keyof Steps as [Call<Steps[Name]>] extends [never] ? never : Name]: Call<Steps[Name]> };

/**
 * Typed calls of your own steps, the exports of the pipeline's `steps.ts`. Import only their type: their code runs on
 * the pool, never in the workflow.
 *
 * @example const { addHolidays } = steps<typeof mySteps>({ pool: 'cpu' });
 */
export function steps<Steps>(options: Omit<StageOptions, 'name'> = {}): StepCalls<Steps> {
  return new Proxy({} as StepCalls<Steps>, {
    get: (_target, name) => {
      if (typeof name !== 'string') return undefined;
      return (...args: unknown[]) => runStage('step', name, { pipeline: currentRun().pipeline, step: name, args }, options);
    },
  });
}
