import { call, col, relationStep, set, valueStep } from 'millrace/steps';
import { decimals } from './rounding.ts';

/** Adds the distance in another unit; requests are given it by the counterpart. */
export const convertDistance = relationStep(
  ({ name }, { factor }: { factor: number }) => `SELECT *, round(distance * ${String(factor)}, ${String(decimals)}) AS converted FROM ${name}`,
  { serving: ({ factor }) => [set('converted', call('round', call('multiply', col('distance'), factor), decimals))] },
);

/** The same without a counterpart: no request can be given the column. */
export const convertForTraining = relationStep(
  ({ name }, { factor }: { factor: number }) => `SELECT *, round(distance * ${String(factor)}, ${String(decimals)}) AS converted FROM ${name}`,
);

export const inspect = valueStep((rows: number) => ({ rows }));
