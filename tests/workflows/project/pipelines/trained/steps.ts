import { relationStep, valueStep } from 'millrace/steps';
import { decimals } from './rounding.ts';

/** Adds the distance in another unit. */
export const convertDistance = relationStep(
  ({ name }, { factor }: { factor: number }) => `SELECT *, round(distance * ${String(factor)}, ${String(decimals)}) AS converted FROM ${name}`,
);

export const inspect = valueStep((rows: number) => ({ rows }));
