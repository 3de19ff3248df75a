import type { MetricStep } from '../activities/steps.ts';
import { currentRun } from './run.ts';

type ParametersOf<S> = S extends MetricStep<infer Parameters> ? Parameters : never;
type ColumnsOption = { /** Columns that the step's rows carry beside target, prediction and score. */ readonly columns?: readonly string[] };

/** Which step turns judged rows into figures, as `evaluate` takes it. */
export interface BusinessCall {
  readonly pipeline: string;
  readonly step: string;
  readonly parameters: Record<string, unknown>;
  readonly columns: string[];
}

type MetricCall<Parameters> =
  Record<string, never> extends Parameters
    ? (parameters?: Parameters, options?: ColumnsOption) => BusinessCall
    : (parameters: Parameters, options?: ColumnsOption) => BusinessCall;
export type BusinessMetrics<Steps> = {
  readonly [Name in keyof Steps as Steps[Name] extends MetricStep<never> ? Name : never]: MetricCall<ParametersOf<Steps[Name]>>;
};

/**
 * Your own figures of an evaluation: the exports of the pipeline's `steps.ts` that `metricStep` made. Import only their
 * type.
 *
 * @example const { profit } = businessMetrics<typeof mySteps>();  await evaluate(winner, { on: test, business: [profit({ perCall: 2 }, { columns: ['amount'] })] });
 */
export function businessMetrics<Steps>(): BusinessMetrics<Steps> {
  return new Proxy({} as BusinessMetrics<Steps>, {
    get: (_target, name) => {
      if (typeof name !== 'string') return undefined;
      return (parameters: Record<string, unknown> = {}, { columns = [] }: ColumnsOption = {}): BusinessCall => ({
        pipeline: currentRun().pipeline,
        step: name,
        parameters,
        columns: [...columns],
      });
    },
  });
}
