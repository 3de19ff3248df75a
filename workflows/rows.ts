import type { RowsStep } from '../activities/steps.ts';
import type { SourceInput } from '../contracts/source.ts';
import { currentRun } from './run.ts';

export interface RowsOptions {
  /** Says that the rows are those of every earlier ingest with this text: then the step is not called again. Default: nobody knows, and it is. */
  readonly version?: string;
}

type ParametersOf<S> = S extends RowsStep<infer Parameters> ? Parameters : never;
type RowsCall<Parameters> =
  Record<string, never> extends Parameters
    ? (parameters?: Parameters, options?: RowsOptions) => SourceInput
    : (parameters: Parameters, options?: RowsOptions) => SourceInput;
export type RowsSources<Steps> = {
  readonly [Name in keyof Steps as Steps[Name] extends RowsStep<never> ? Name : never]: RowsCall<ParametersOf<Steps[Name]>>;
};

/**
 * Your own sources: the exports of the pipeline's `steps.ts` that `rowsStep` made. Import only their type.
 *
 * @example const { orders } = rows<typeof mySteps>();  await ingest({ source: orders({ since: '2026-01-01' }) });
 */
export function rows<Steps>(): RowsSources<Steps> {
  return new Proxy({} as RowsSources<Steps>, {
    get: (_target, name) => {
      if (typeof name !== 'string') return undefined;
      return (parameters: Readonly<Record<string, unknown>> = {}, options: RowsOptions = {}): SourceInput => ({
        format: 'rows',
        pipeline: currentRun().pipeline,
        step: name,
        parameters,
        ...options,
      });
    },
  });
}
